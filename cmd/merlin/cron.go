package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) cronCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "cron",
		Short: "Add, list, show, pause, resume and remove messages that come again and again",
		Long: `A schedule sends a message at the times of a cron expression: minute hour day month
weekday, with seconds in front if wanted, or @hourly, @daily, @every 90s. CRON_TZ=Zone
before it names the time zone, else it is the broker's. Each firing is an ordinary
message with the properties MERLIN_SCHEDULE and MERLIN_PLANNED_MS.

A producer makes a schedule, too, by the property MERLIN_CRON, with MERLIN_CRON_NAME,
MERLIN_CRON_UNTIL, MERLIN_CRON_COUNT and MERLIN_CRON_MISSED beside it if wanted.`,
		Example: `  merlin cron add nightly orders '0 3 * * *' 'close the day'
  merlin cron add tick orders '*/10 * * * * *' x --count 100
  merlin cron list
  merlin cron pause nightly`,
	}, a.cronAdd(), a.cronList(), a.cronShow(), a.cronControl("pause", "Pause a schedule", "What would have fired meanwhile is left out.", "paused"),
		a.cronControl("resume", "Resume a paused schedule", "It fires at the next planned time.", "resumed"),
		a.cronControl("remove", "Remove a schedule", "What it has sent already stays.", "removed"))
}

func (a *app) cronAdd() *cobra.Command {
	var n client.NewSchedule
	cmd := &cobra.Command{
		Use:   "add NAME TOPIC EXPRESSION [BODY]",
		Short: "Add a schedule",
		Long: `Adds a schedule at a broker that has the topic. Without BODY the body is read from
standard input. --missed says what becomes of firings that the broker was down for:
skip them, fire once for all, or fire all of them.`,
		Example: `  merlin cron add nightly orders '0 3 * * *' 'close the day'
  merlin cron add report orders 'CRON_TZ=Europe/Berlin 0 9 * * MON-FRI' go --tag report --missed once
  merlin cron add nightly orders '0 4 * * *' 'close the day' --replace`,
		Args: args(cobra.RangeArgs(3, 4), "NAME TOPIC EXPRESSION and at most one BODY"),
		RunE: func(cmd *cobra.Command, given []string) error {
			n.Name, n.Topic, n.Spec = given[0], given[1], given[2]
			switch n.Missed {
			case "skip", "once", "all":
			default:
				return usagef(cmd, "--missed %s: want skip, once or all", n.Missed)
			}
			if n.Until != "" {
				if _, err := time.Parse(time.RFC3339, n.Until); err != nil {
					return usagef(cmd, "--until %s: want a time as 2030-12-31T23:59:59Z", n.Until)
				}
			}
			if n.Count < 0 {
				return usagef(cmd, "--count %d: want 1 or more", n.Count)
			}
			if len(given) == 4 {
				n.Body = []byte(given[3])
			} else {
				body, err := io.ReadAll(a.in)
				if err != nil {
					return fmt.Errorf("read the body from standard input: %w", err)
				}
				n.Body = body
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				s, err := admin.AddSchedule(ctx, n)
				if err != nil {
					return err
				}
				return a.print(s, func(w io.Writer) {
					fmt.Fprintf(w, "schedule %s on broker %s fires next at %s\n", s.Name, s.Broker, when(&s.Next.Time))
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&n.Tags, "tag", "", "tag of each message")
	f.StringVarP(&n.Keys, "key", "k", "", "keys of each message, separated by spaces")
	f.StringVar(&n.Until, "until", "", "last time it may fire (RFC 3339)")
	f.Int64Var(&n.Count, "count", 0, "how often it fires at most (default without end)")
	f.StringVar(&n.Missed, "missed", "skip", "firings that were missed: skip, once or all")
	f.BoolVar(&n.Replace, "replace", false, "change the schedule of that name")
	return cmd
}

func (a *app) cronList() *cobra.Command {
	var topic string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List schedules",
		Example: `  merlin cron list
  merlin cron list --topic orders --json`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				all, err := admin.Schedules(ctx)
				if err != nil {
					return err
				}
				list := []client.Schedule{}
				for _, s := range all {
					if topic == "" || s.Topic == topic {
						list = append(list, s)
					}
				}
				return a.print(map[string]any{"schedules": list}, func(w io.Writer) {
					r := &rows{head: []any{"NAME", "TOPIC", "EXPRESSION", "STATE", "NEXT", "FIRED", "MISSED", "BROKER"}, nums: []int{6}}
					for _, s := range list {
						r.add(s.Name, s.Topic, s.Spec, cronState(&s), when(&s.Next.Time), s.Fired, s.Missed, s.Broker)
					}
					a.table(w, r)
				})
			})
		},
	}
	cmd.Flags().StringVarP(&topic, "topic", "t", "", "only those of this topic")
	return cmd
}

func cronState(s *client.Schedule) string {
	switch {
	case s.Paused:
		return "paused"
	case s.Next.IsZero():
		return "ended"
	}
	return "active"
}

func (a *app) cronShow() *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a schedule and its next firings",
		Example: `  merlin cron show nightly
  merlin cron show nightly --count 20 --json`,
		Args: args(cobra.ExactArgs(1), "one NAME"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				s, err := admin.Schedule(ctx, given[0], count)
				if err != nil {
					return err
				}
				return a.print(s, func(w io.Writer) {
					fmt.Fprintf(w, "schedule    %s, %s, on broker %s\n", s.Name, cronState(s), s.Broker)
					fmt.Fprintf(w, "expression  %s\n", s.Spec)
					fmt.Fprintf(w, "topic       %s, queue %d\n", s.Topic, s.Queue)
					fmt.Fprintf(w, "missed      %s\n", s.Missed)
					fmt.Fprintf(w, "fired       %d times, last at %s\n", s.Fired, when(&s.Last.Time))
					if s.Count > 0 {
						fmt.Fprintf(w, "ends        after %d firings\n", s.Count)
					}
					if !s.Until.IsZero() {
						fmt.Fprintf(w, "ends        %s\n", when(&s.Until.Time))
					}
					for _, t := range s.Coming {
						fmt.Fprintf(w, "next        %s\n", when(&t.Time))
					}
				})
			})
		},
	}
	cmd.Flags().IntVarP(&count, "count", "n", 5, "so many of the next firings")
	return cmd
}

func (a *app) cronControl(operation, short, long, done string) *cobra.Command {
	return &cobra.Command{
		Use:     operation + " NAME",
		Short:   short,
		Long:    short + ". " + long,
		Example: "  merlin cron " + operation + " nightly",
		Args:    args(cobra.ExactArgs(1), "one NAME"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				broker, err := admin.ControlSchedule(ctx, given[0], operation)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"name": given[0], "broker": broker, "done": done}, func(w io.Writer) {
					fmt.Fprintf(w, "schedule %s on broker %s %s\n", given[0], broker, done)
				})
			})
		},
	}
}
