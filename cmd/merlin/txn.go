package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) txnCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "txn",
		Short: "List, show and resolve transactions",
		Long: `Transactional messages are stored as halves, which no consumer sees until their
producer commits them. These commands show what is pending and why, and end it by
hand. They work with Merlin's brokers only.`,
		Example: `  merlin txn list --age 1m
  merlin txn show 7F0000010B2C000000000A1B2C3D0001
  merlin txn commit 7F0000010B2C000000000A1B2C3D0001`,
	},
		a.txnList(),
		a.txnOne("show", "Show a transaction: its half, the checks and their answers, its end and delivery",
			"", client.ShowTransaction),
		a.txnOne("commit", "Deliver the message of a pending transaction",
			"The producer is not asked. What it says later does not count any more.", client.CommitTransaction),
		a.txnOne("rollback", "End a pending transaction without delivering its message",
			"The producer is not asked. What it says later does not count any more.", client.RollbackTransaction),
		a.txnOne("check", "Ask a producer about a pending transaction now",
			"One live producer of the group is asked. 'merlin txn show' tells what it said.", client.CheckTransaction),
	)
}

func (a *app) txnList() *cobra.Command {
	var f client.TransactionFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List pending transactions, oldest first",
		Example: `  merlin txn list
  merlin txn list --group payments --age 10m
  merlin txn list --key order-17 --json`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.Max < 1 {
				return usagef(cmd, "--max %d: want 1 or more", f.Max)
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				list, pending, err := admin.Transactions(ctx, f)
				if err != nil {
					return err
				}
				if list == nil {
					list = []client.Transaction{}
				}
				return a.print(map[string]any{"transactions": list, "pending": pending}, func(w io.Writer) { a.txnRows(w, list, pending) })
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.Group, "group", "g", "", "of this producer group")
	flags.StringVarP(&f.Topic, "topic", "t", "", "for this topic")
	flags.StringVarP(&f.Key, "key", "k", "", "with this key or unique key, those that have ended too")
	flags.DurationVar(&f.Age, "age", 0, "at least so old")
	flags.IntVarP(&f.Max, "max", "n", 100, "at most so many of each broker")
	return cmd
}

func (a *app) txnRows(w io.Writer, list []client.Transaction, pending int) {
	r := &rows{head: []any{"KEY", "GROUP", "TOPIC", "STATE", "AGE", "CHECKS", "NEXT CHECK", "OFFSET", "BROKER"}, nums: []int{5, 6, 8}}
	for _, t := range list {
		next := "-"
		switch {
		case t.Orphan:
			next = "no producer"
		case !t.Next.IsZero():
			next = when(&t.Next)
		}
		r.add(orDash(t.Key), orDash(t.Group), t.Topic, t.State, span(time.Since(t.Born).Seconds()), t.Checks, next, t.Offset, t.Broker)
	}
	a.table(w, r)
	fmt.Fprintf(w, "\n%d pending\n", pending)
}

func (a *app) txnOne(name, short, long string, do client.TransactionAction) *cobra.Command {
	var broker string
	cmd := &cobra.Command{
		Use:   name + " ID",
		Short: short,
		Long: short + `.
` + long + `
ID is the message's unique key, one of its keys, its offset id, or the offset of
its half in the half queue.`,
		Example: "  merlin txn " + name + " 7F0000010B2C000000000A1B2C3D0001\n  merlin txn " + name + " 1204 --broker broker-a",
		Args:    args(cobra.ExactArgs(1), "one ID"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				t, err := admin.Transaction(ctx, given[0], broker, do)
				if err != nil {
					return err
				}
				return a.print(t, func(w io.Writer) { a.txnView(w, t) })
			})
		},
	}
	cmd.Flags().StringVar(&broker, "broker", "", "the broker that has it (default: ask all)")
	return cmd
}

func (a *app) txnView(w io.Writer, t *client.Transaction) {
	state := t.State
	switch {
	case t.Orphan:
		state += ", no producer of the group is connected"
	case !t.Next.IsZero():
		state += ", looked at again at " + when(&t.Next)
	}
	fmt.Fprintf(w, "key      %s\n", orDash(t.Key))
	fmt.Fprintf(w, "state    %s\n", state)
	fmt.Fprintf(w, "group    %s\n", orDash(t.Group))
	fmt.Fprintf(w, "topic    %s, queue %d\n", t.Topic, t.Queue)
	fmt.Fprintf(w, "message  %d bytes, tags %s, keys %s\n", t.BodySize, orDash(t.Tags), orDash(t.Keys))
	fmt.Fprintf(w, "half     broker %s, offset %d, position %d, %s\n", t.Broker, t.Offset, t.Position, t.OffsetID)
	fmt.Fprintf(w, "checks   %d\n\n", t.Checks)
	r := &rows{head: []any{"AT", "WHAT", ""}}
	r.add(when(&t.Born), "born", "at "+t.BornHost)
	for _, s := range t.Steps {
		r.add(when(&s.At), s.What, s.Text)
	}
	a.table(w, r)
}
