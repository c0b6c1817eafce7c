package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) groupCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "group",
		Short: "List, show and change consumer groups",
		Example: `  merlin group list
  merlin group show billing`,
	}, a.groupList(), a.groupShow(), a.groupCreate(), a.groupSet())
}

func (a *app) groupList() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List consumer groups with their members and lag",
		Example: `  merlin group list
  merlin group list --json | jq '.groups[] | select(.lag > 1000)'`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				bar := a.progress("looking at groups")
				groups, err := admin.Groups(ctx, all, func(done, total int) { bar.set(int64(done), int64(total)) })
				bar.done()
				if err != nil {
					return err
				}
				return a.print(map[string]any{"groups": groups}, func(w io.Writer) {
					r := &rows{head: []any{"GROUP", "MEMBERS", "MODEL", "LAG", "MSG/S"}, nums: []int{2, 4, 5}}
					for _, g := range groups {
						r.add(g.Name, g.Members, orDash(g.Model), g.Lag, fmt.Sprintf("%.1f", g.TPS))
					}
					a.table(w, r)
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also the groups that brokers have from the start")
	return cmd
}

func (a *app) groupShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show GROUP",
		Short: "Show a group: settings, members, subscriptions, offsets and lag of every queue",
		Long: `Shows a consumer group. The lag of a queue is given in messages and as the age
of the oldest message that the group has not consumed.`,
		Example: `  merlin group show billing
  merlin group show billing --json | jq '.lag_seconds'`,
		Args: args(cobra.ExactArgs(1), "one GROUP"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				view, err := admin.Group(ctx, given[0])
				if err != nil {
					return err
				}
				return a.print(view, func(w io.Writer) { a.groupView(w, view) })
			})
		},
	}
}

func (a *app) groupView(w io.Writer, v *client.GroupView) {
	fmt.Fprintf(w, "group    %s\n", v.Name)
	for _, c := range v.Configs {
		state := "may consume"
		if !c.Enabled {
			state = "may NOT consume"
		}
		fmt.Fprintf(w, "broker   %s: %s, %d retries (%s), %d retry queues, times out after %d min\n",
			c.Broker, state, c.RetryMax, strings.ToLower(c.RetryPolicy), c.RetryQueues, c.TimeoutMin)
	}
	if len(v.Members) > 0 {
		fmt.Fprintf(w, "model    %s, %s, a new group begins with %s\n", v.Model, v.Type, v.From)
	}
	fmt.Fprintf(w, "lag      %d messages, %s\n", v.Lag, span(v.LagSeconds))
	fmt.Fprintf(w, "consumes %.1f messages a second\n\n", v.TPS)
	for _, c := range v.Conflicts {
		fmt.Fprintf(w, "WARNING  %s\n\n", c)
	}
	if len(v.Members) == 0 {
		fmt.Fprintln(w, "no member is connected")
	} else {
		r := &rows{head: []any{"MEMBER", "ADDRESS", "LANGUAGE", "VERSION", "BROKERS"}}
		for _, m := range v.Members {
			r.add(m.ClientID, m.Addr, m.Language, m.Version, strings.Join(m.Brokers, ","))
		}
		a.table(w, r)
		fmt.Fprintln(w)
		r = &rows{head: []any{"SUBSCRIBED TOPIC", "EXPRESSION", "TYPE", "BROKER"}}
		for _, s := range v.Subscriptions {
			r.add(s.Topic, s.Expression, s.Type, s.Broker)
		}
		a.table(w, r)
	}
	if len(v.Queues) == 0 {
		fmt.Fprintln(w, "\nnothing has been committed yet")
		return
	}
	fmt.Fprintln(w)
	r := &rows{head: []any{"TOPIC", "BROKER", "QUEUE", "COMMITTED", "END", "LAG", "BEHIND", "LAST CONSUMED"}, nums: []int{3, 4, 5, 6, 7}}
	for _, q := range v.Queues {
		r.add(q.Topic, q.Broker, q.Queue, q.Committed, q.End, q.Lag, span(q.LagSeconds), when(q.Consumed))
	}
	a.table(w, r)
}
