package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
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
	var f cronFilter
	var from, to string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List schedules by name",
		Long: `Lists schedules by name, of all brokers. --from and --to are times (RFC 3339) or
durations from now on. Where more follow, the last line, or "next" with --json, is
what --after wants for the next page.`,
		Example: `  merlin cron list
  merlin cron list --key order-17 --to 1h
  merlin cron list --topic orders --json`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if f.from, err = parseComing(from); err != nil {
				return usagef(cmd, "--from %w", err)
			}
			if f.to, err = parseComing(to); err != nil {
				return usagef(cmd, "--to %w", err)
			}
			if f.max < 1 {
				return usagef(cmd, "--max %d: want 1 or more", f.max)
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				all, err := admin.Schedules(ctx)
				if err != nil {
					return err
				}
				list, next := f.page(all)
				answer := map[string]any{"schedules": list}
				if next != "" {
					answer["next"] = next
				}
				return a.print(answer, func(w io.Writer) {
					r := &rows{head: []any{"NAME", "TOPIC", "EXPRESSION", "STATE", "NEXT", "FIRED", "MISSED", "BROKER"}, nums: []int{6}}
					for _, s := range list {
						r.add(s.Name, s.Topic, s.Spec, cronState(&s), when(&s.Next.Time), s.Fired, s.Missed, s.Broker)
					}
					a.table(w, r)
					if next != "" {
						fmt.Fprintf(w, "more: --after '%s'\n", next)
					}
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.topic, "topic", "t", "", "only those of this topic")
	flags.StringVarP(&f.key, "key", "k", "", "only those whose messages have this key")
	flags.StringVar(&from, "from", "", "that fire next at or after: a time, or a duration from now")
	flags.StringVar(&to, "to", "", "that fire next before: likewise")
	flags.IntVarP(&f.max, "max", "n", 1000, "at most so many")
	flags.StringVar(&f.after, "after", "", "go on where an earlier page ended")
	return cmd
}

// cronFilter says which schedules to list. Zero values match all.
type cronFilter struct {
	topic, key string
	from, to   time.Time // of the next firing: at or after, and before
	after      string    // name
	max        int
}

// page returns the first schedules behind after that fit, and the name behind
// which others follow, "" if none do. all is in order of names; those of one
// name, at several brokers, stay together.
func (f *cronFilter) page(all []client.Schedule) (list []client.Schedule, next string) {
	list = []client.Schedule{}
	for _, s := range all {
		next := s.Next.Time
		switch {
		case f.after != "" && s.Name <= f.after,
			f.topic != "" && s.Topic != f.topic,
			f.key != "" && !slices.Contains(strings.Fields(s.Keys), f.key),
			!f.from.IsZero() && (next.IsZero() || next.Before(f.from)),
			!f.to.IsZero() && (next.IsZero() || !next.Before(f.to)):
			continue
		}
		if n := len(list); n >= f.max && list[n-1].Name != s.Name {
			return list, list[n-1].Name
		}
		list = append(list, s)
	}
	return list, ""
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
