package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) delayCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "delay",
		Short: "List, show, cancel and reschedule messages that wait for their time",
		Long: `Shows and changes messages that were sent with a delay, by level or for an instant,
and are not delivered yet. They work with Merlin's brokers only. For messages that come
again and again see 'merlin cron'.`,
		Example: `  merlin delay list --topic orders --to 1h
  merlin delay show 7F0000010B2C000000000A1B2C3D0001
  merlin delay cancel --key order-17 --topic orders
  merlin delay reschedule 7F0000010B2C000000000A1B2C3D0001 --in 15m`,
	}, a.delayList(), a.delayShow(), a.delayCancel(), a.delayReschedule())
}

func (a *app) delayList() *cobra.Command {
	var f client.DelayedFilter
	var from, to string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List waiting messages by the time they are due",
		Long: `Lists messages that wait, by due time, of all brokers. --from and --to are times
(RFC 3339) or durations from now on. Where more follow, the last line, or "next" with
--json, is what --after wants for the next page.`,
		Example: `  merlin delay list
  merlin delay list --topic orders --from 1h --to 2h
  merlin delay list --key order-17 --json`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if f.From, err = parseComing(from); err != nil {
				return usagef(cmd, "--from %w", err)
			}
			if f.To, err = parseComing(to); err != nil {
				return usagef(cmd, "--to %w", err)
			}
			if f.Max < 1 || f.Max > 1000 {
				return usagef(cmd, "--max %d: want 1 to 1000", f.Max)
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				page, err := admin.Delayed(ctx, f)
				if err != nil {
					return err
				}
				return a.print(page, func(w io.Writer) {
					a.delayRows(w, page.Messages)
					if page.Next != "" {
						fmt.Fprintf(w, "more: --after '%s'\n", page.Next)
					}
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.Topic, "topic", "t", "", "for this topic")
	flags.StringVarP(&f.Key, "key", "k", "", "with this key or unique key")
	flags.StringVar(&from, "from", "", "due at or after: a time, or a duration from now")
	flags.StringVar(&to, "to", "", "due before: likewise")
	flags.IntVarP(&f.Max, "max", "n", 100, "at most so many")
	flags.StringVar(&f.After, "after", "", "go on where an earlier page ended")
	return cmd
}

func (a *app) delayRows(w io.Writer, list []client.Delayed) {
	r := &rows{head: []any{"DUE", "TOPIC", "QUEUE", "LEVEL", "UNIQUE KEY", "KEYS", "TAGS", "SIZE", "BROKER"}, nums: []int{3, 4, 8}}
	for _, m := range list {
		level := "-"
		if m.Level > 0 {
			level = fmt.Sprint(m.Level)
		}
		r.add(when(&m.Due.Time), m.Topic, m.Queue, level, orDash(m.UniqueKey), orDash(m.Keys), orDash(m.Tags), m.Size, m.Broker)
	}
	a.table(w, r)
}

// delayTarget are the flags and arguments that name waiting messages.
type delayTarget struct{ client.DelayedChange }

func (t *delayTarget) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&t.Key, "key", "k", "", "all that have this key, in place of ID")
	cmd.Flags().StringVarP(&t.Topic, "topic", "t", "", "only those for this topic")
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if len(given) > 1 || (len(given) == 1) == (t.Key != "") {
			return usagef(cmd, "%s wants one ID, or --key", cmd.CommandPath())
		}
		if len(given) == 1 {
			t.ID = given[0]
		}
		return nil
	}
}

func (a *app) delayShow() *cobra.Command {
	var t delayTarget
	cmd := &cobra.Command{
		Use:   "show ID | --key KEY",
		Short: "Show a waiting message with its properties and body",
		Example: `  merlin delay show 7F0000010B2C000000000A1B2C3D0001
  merlin delay show --key order-17 --json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				list, err := admin.ShowDelayed(ctx, t.DelayedChange)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"messages": list}, func(w io.Writer) { delayViews(w, list) })
			})
		},
	}
	t.register(cmd)
	return cmd
}

func delayViews(w io.Writer, list []client.Delayed) {
	for i, m := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "due        %s\n", when(&m.Due.Time))
		if m.Level > 0 {
			fmt.Fprintf(w, "level      %d\n", m.Level)
		}
		fmt.Fprintf(w, "topic      %s, queue %d, broker %s\n", m.Topic, m.Queue, m.Broker)
		fmt.Fprintf(w, "id         %s\n", orDash(m.UniqueKey))
		fmt.Fprintf(w, "offset id  %s\n", m.ID)
		fmt.Fprintf(w, "stored     %s\n", when(&m.Stored.Time))
		for _, name := range slices.Sorted(maps.Keys(m.Properties)) {
			fmt.Fprintf(w, "property   %s = %q\n", name, m.Properties[name])
		}
		fmt.Fprintf(w, "body       %d bytes\n%s\n", m.Size, m.Body)
	}
}

func (a *app) delayCancel() *cobra.Command {
	var t delayTarget
	cmd := &cobra.Command{
		Use:   "cancel ID | --key KEY",
		Short: "Cancel waiting messages",
		Long: `Cancels a message, or all that have a key. It says truly whether they still waited:
it fails when none did.`,
		Example: `  merlin delay cancel 7F0000010B2C000000000A1B2C3D0001
  merlin delay cancel --key order-17 --topic orders`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.changeDelayed(cmd, &t, "cancelled") },
	}
	t.register(cmd)
	return cmd
}

func (a *app) delayReschedule() *cobra.Command {
	var t delayTarget
	var at, in string
	cmd := &cobra.Command{
		Use:   "reschedule ID | --key KEY",
		Short: "Give waiting messages another instant",
		Long:  `Moves a message, or all that have a key, to another instant, earlier or later.`,
		Example: `  merlin delay reschedule 7F0000010B2C000000000A1B2C3D0001 --in 15m
  merlin delay reschedule --key order-17 --at 2030-01-01T00:00:00Z`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if (at == "") == (in == "") {
				return usagef(cmd, "give either --at or --in")
			}
			if t.Due, err = parseComing(at + in); err != nil {
				return usagef(cmd, "%w", err)
			}
			return a.changeDelayed(cmd, &t, "moved")
		},
	}
	t.register(cmd)
	cmd.Flags().StringVar(&at, "at", "", "a time (RFC 3339)")
	cmd.Flags().StringVar(&in, "in", "", "a duration from now")
	return cmd
}

func (a *app) changeDelayed(cmd *cobra.Command, t *delayTarget, done string) error {
	return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
		list, err := admin.ChangeDelayed(ctx, t.DelayedChange)
		if err != nil {
			return err
		}
		failed := 0
		err = a.print(map[string]any{"messages": list}, func(w io.Writer) {
			for _, m := range list {
				if m.Error != "" {
					fmt.Fprintf(w, "%s of topic %s was not %s: %s\n", m.UniqueKey, m.Topic, done, m.Error)
					continue
				}
				fmt.Fprintf(w, "%s of topic %s, due %s, %s\n", m.UniqueKey, m.Topic, when(&m.Due.Time), done)
			}
		})
		for _, m := range list {
			if m.Error != "" {
				failed++
			}
		}
		if err == nil && failed > 0 {
			err = fmt.Errorf("%d of %d messages waited no more", failed, len(list))
		}
		return err
	})
}
