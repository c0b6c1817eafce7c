package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) topicCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "topic",
		Short: "Create, list, show and delete topics",
		Example: `  merlin topic create orders --queues 16
  merlin topic list
  merlin topic show orders`,
	}, a.topicCreate(), a.topicList(), a.topicShow(), a.topicDelete())
}

func (a *app) topicCreate() *cobra.Command {
	var (
		queues          int
		perm            string
		order           bool
		attrs           []string
		cluster, broker string
	)
	cmd := &cobra.Command{
		Use:   "create TOPIC",
		Short: "Create a topic, or change it",
		Long: `Creates the topic on every broker, or on those of one cluster or the one named.
A topic that is there already gets the settings given.`,
		Example: `  merlin topic create orders
  merlin topic create orders -q 16 --cluster DefaultCluster
  merlin topic create payments --perm R
  merlin topic create events --attr message.type=DELAY`,
		Args: args(cobra.ExactArgs(1), "one TOPIC"),
		RunE: func(cmd *cobra.Command, given []string) error {
			bits, err := client.ParsePerm(perm)
			if err != nil {
				return usagef(cmd, "--perm: %w", err)
			}
			if queues < 1 || queues > 65535 {
				return usagef(cmd, "--queues %d: want 1 to 65535", queues)
			}
			attributes, err := parsePairs(attrs)
			if err != nil {
				return usagef(cmd, "--attr: %w", err)
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				made, err := admin.CreateTopic(ctx, client.TopicSpec{Name: given[0], Queues: queues, Perm: bits, Order: order, Attributes: attributes, Cluster: cluster, Broker: broker})
				if err != nil {
					return err
				}
				return a.print(map[string]any{"name": given[0], "brokers": made}, func(w io.Writer) {
					for _, b := range made {
						fmt.Fprintf(w, "topic %s: %d queues, %s, on broker %s (%s)\n", given[0], b.WriteQueues, b.Perm, b.Broker, b.Addr)
					}
				})
			})
		},
	}
	f := cmd.Flags()
	f.IntVarP(&queues, "queues", "q", 8, "queues on each broker, to read and to write")
	f.StringVar(&perm, "perm", "RW", "permission: RW, R or W (or 6, 4, 2)")
	f.BoolVar(&order, "order", false, "keep an ordered topic's queues where they are when a broker is gone")
	f.StringArrayVar(&attrs, "attr", nil, "attribute k=v, repeatable; k= takes it away")
	f.StringVarP(&cluster, "cluster", "c", "", "only the brokers of this cluster")
	f.StringVarP(&broker, "broker", "b", "", "only the broker of this name")
	return cmd
}

// parsePairs reads k=v.
func parsePairs(list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(list))
	for _, p := range list {
		k, v, found := strings.Cut(p, "=")
		if !found || k == "" {
			return nil, fmt.Errorf("%q: want k=v", p)
		}
		m[k] = v
	}
	return m, nil
}

func (a *app) topicList() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List topics",
		Example: `  merlin topic list
  merlin topic list --all          system, retry and dead-letter topics as well
  merlin topic list --json | jq -r '.topics[].name'`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				topics, err := admin.Topics(ctx)
				if err != nil {
					return err
				}
				shown := make([]client.TopicRow, 0, len(topics))
				for _, t := range topics {
					if all || !t.System {
						shown = append(shown, t)
					}
				}
				return a.print(map[string]any{"topics": shown}, func(w io.Writer) {
					r := &rows{head: []any{"TOPIC", "BROKER", "READ", "WRITE", "PERM", "ORDER"}, nums: []int{3, 4}}
					for _, t := range shown {
						for _, b := range t.Brokers {
							r.add(t.Name, b.Broker, b.ReadQueues, b.WriteQueues, b.Perm, yes(b.Order))
						}
					}
					a.table(w, r)
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also the brokers' own, retry and dead-letter topics")
	return cmd
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "-"
}

func (a *app) topicShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show TOPIC",
		Short: "Show a topic: its brokers, queues with their offsets, and the groups that read it",
		Example: `  merlin topic show orders
  merlin topic show orders --json | jq '.queues[] | select(.messages > 0)'`,
		Args: args(cobra.ExactArgs(1), "one TOPIC"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				view, err := admin.Topic(ctx, given[0])
				if err != nil {
					return err
				}
				return a.print(view, func(w io.Writer) { a.topicView(w, view) })
			})
		},
	}
}

func (a *app) topicView(w io.Writer, v *client.TopicView) {
	fmt.Fprintf(w, "topic    %s\n", v.Name)
	for _, b := range v.Brokers {
		fmt.Fprintf(w, "broker   %s (%s), cluster %s: %d queues to read, %d to write, %s", b.Broker, b.Addr, cmp.Or(b.Cluster, "?"), b.ReadQueues, b.WriteQueues, b.Perm)
		if b.Order {
			fmt.Fprint(w, ", ordered")
		}
		for k, v := range b.Attributes {
			fmt.Fprintf(w, ", %s=%s", k, v)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "messages %d\n", v.Messages)
	fmt.Fprintf(w, "groups   %s\n\n", orDash(strings.Join(v.Groups, ", ")))
	r := &rows{head: []any{"BROKER", "QUEUE", "MIN", "MAX", "MESSAGES", "LAST MESSAGE"}, nums: []int{2, 3, 4, 5}}
	for _, q := range v.Queues {
		r.add(q.Broker, q.Queue, q.Min, q.Max, q.Messages, when(q.Updated))
	}
	a.table(w, r)
}

func (a *app) topicDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete TOPIC...",
		Short: "Delete topics with their messages",
		Long: `Deletes the topics from every broker that has them and from the name servers.
Their messages cannot be read any more.`,
		Example: `  merlin topic delete orders
  merlin topic delete test-1 test-2`,
		Args: args(cobra.MinimumNArgs(1), "at least one TOPIC"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				for _, topic := range given {
					if err := admin.DeleteTopic(ctx, topic); err != nil {
						return err
					}
					if !a.json {
						fmt.Fprintf(a.out, "topic %s is deleted\n", topic)
					}
				}
				if a.json {
					return a.print(map[string]any{"deleted": given}, nil)
				}
				return nil
			})
		},
	}
}
