package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) whyQueue() *cobra.Command {
	var group, broker string
	cmd := &cobra.Command{
		Use:   "queue TOPIC/QUEUE --group GROUP",
		Short: "What holds a group back in a queue: who owns it, since when, lag, and the reasons",
		Long: `Asks the brokers what they know of a group and one queue: which member owns it, its
last pull, its lock, the lag in messages and seconds, and what holds it back. It
needs nothing from the clients. It works with Merlin's brokers only.`,
		Example: `  merlin why queue orders/3 --group billing
  merlin why queue orders/0 --group billing --json`,
		Args: args(cobra.ExactArgs(1), "one TOPIC/QUEUE"),
		RunE: func(cmd *cobra.Command, given []string) error {
			at := strings.LastIndexByte(given[0], '/')
			if at < 1 {
				return usagef(cmd, "%q: want TOPIC/QUEUE as orders/3", given[0])
			}
			queue, err := strconv.Atoi(given[0][at+1:])
			if err != nil || queue < 0 {
				return usagef(cmd, "%q: want the number of a queue behind the /, as orders/3", given[0])
			}
			if group == "" {
				return usagef(cmd, "name the consumer group with --group")
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				all, err := admin.WhyQueue(ctx, given[0][:at], queue, group, broker)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"queues": all}, func(w io.Writer) {
					for i := range all {
						if i > 0 {
							fmt.Fprintln(w)
						}
						printQueueWhy(w, &all[i])
					}
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&group, "group", "g", "", "consumer group")
	f.StringVar(&broker, "broker", "", "the broker that has the queue (default: ask all)")
	return cmd
}

func printQueueWhy(w io.Writer, q *client.QueueWhy) {
	ago := func(t time.Time) string { return span(q.Now.Sub(t).Seconds()) + " ago" }
	fmt.Fprintf(w, "queue      %s/%d at %s, offsets %d to %d\n", q.Topic, q.Queue, q.Broker, q.Min, q.Max-1)
	committed := "nothing committed"
	if q.Committed >= 0 {
		committed = fmt.Sprintf("committed %d", q.Committed)
	}
	fmt.Fprintf(w, "group      %s, %s, lag %d messages, %s\n", q.Group, committed, q.Lag, span(q.LagSeconds))
	members := "none connected"
	if len(q.Members) > 0 {
		members = fmt.Sprintf("%d, %s: %s", len(q.Members), q.Model, strings.Join(q.Members, ", "))
	}
	fmt.Fprintf(w, "members    %s\n", members)
	if q.Owner != "" {
		fmt.Fprintf(w, "owner      %s, since %s\n", q.Owner, when(&q.OwnerSince))
	}
	if p := q.Pull; p != nil {
		fmt.Fprintf(w, "last pull  %s by %s at offset %d\n", ago(p.At), p.Client, p.Offset)
		if p.Given >= 0 {
			fmt.Fprintf(w, "           messages up to offset %d given %s\n", p.Given-1, ago(p.GivenAt))
		}
	}
	for _, p := range q.Parked {
		fmt.Fprintf(w, "waiting    %s waits for a message at offset %d\n", p.Client, p.Offset)
	}
	if p := q.Pop; p != nil {
		fmt.Fprintf(w, "pops       %d handed out and not acknowledged, next offset %d, %d pops wait\n", p.InFlight, p.Next, p.Waiting)
	}
	if l := q.Lock; l != nil {
		fmt.Fprintf(w, "lock       %s, since %s, refreshed %s, until %s\n", l.Client, when(&l.Since), ago(l.Refreshed), when(&l.Until))
	}
	if len(q.Holds) == 0 {
		fmt.Fprintln(w, "nothing holds it back")
	}
	for _, h := range q.Holds {
		fmt.Fprintf(w, "%s: %s\n", h.Cause, h.Text)
	}
}

func (a *app) whyMessage() *cobra.Command {
	var topic, group string
	cmd := &cobra.Command{
		Use:   "message ID|KEY",
		Short: "Where a message is now, and what became of it in each group",
		Long: `Asks the brokers where a message is: stored, waiting for its time, a half message of
a transaction, recalled, rolled back or expired; and for each consumer group whether
it was filtered out, delivered to whom and when, is in retry, or is a dead letter.

A message is named by its offset id, by its unique id, or by a key.
Who was given a message is remembered by the broker for a while, not across restarts.
It works with Merlin's brokers only.`,
		Example: `  merlin why message 7F0000010B2C000000000A1B2C3D0001
  merlin why message order-17 --topic orders --group billing --json`,
		Args: args(cobra.ExactArgs(1), "one ID or KEY"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				all, err := admin.WhyMessage(ctx, given[0], topic, group)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"messages": all}, func(w io.Writer) {
					for i := range all {
						if i > 0 {
							fmt.Fprintln(w)
						}
						a.printMessageWhy(w, &all[i])
					}
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&topic, "topic", "t", "", "topic; without it, all topics are searched")
	f.StringVarP(&group, "group", "g", "", "tell of this consumer group alone")
	return cmd
}

func (a *app) printMessageWhy(w io.Writer, m *client.MessageWhy) {
	fmt.Fprintf(w, "message    %s of %s at %s, keys %s, tags %s\n", orDash(m.UniqueKey), orDash(m.Topic), m.Broker, orDash(m.Keys), orDash(m.Tags))
	fmt.Fprintf(w, "%s: %s\n", m.State, m.Text)
	for _, g := range m.Groups {
		fmt.Fprintf(w, "group %s, %s: %s\n", g.Group, g.State, g.Text)
		for _, t := range g.Attempts {
			at := time.UnixMilli(t.Time)
			fmt.Fprintf(w, "  failed at %s at %s\n", t.Client, when(&at))
		}
	}
	for _, s := range m.Steps {
		fmt.Fprintf(w, "  %s %s %s\n", when(&s.At), s.What, s.Text)
	}
	if len(m.Copies) == 0 {
		return
	}
	fmt.Fprintln(w)
	r := &rows{head: []any{"RECORD", "QUEUE", "OFFSET", "STORED", "RETRIES", "DUE", "ID"}, nums: []int{2, 3, 5}}
	for i := range m.Copies {
		c := &m.Copies[i]
		due := "-"
		if !c.Due.IsZero() {
			due = when(&c.Due)
		}
		r.add(c.Topic, c.Queue, c.Offset, when(&c.Stored), c.Retries, due, c.ID)
	}
	a.table(w, r)
}
