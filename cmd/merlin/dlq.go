package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) dlqCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "dlq",
		Short: "List, show, re-drive, export and purge dead letters",
		Long: `Dead letters are messages that a consumer group could not consume: they failed as often
as they may. Each keeps the reason, the attempts with their times, and the clients that
failed. These commands work with Merlin's brokers only.`,
		Example: `  merlin dlq list
  merlin dlq show payments --tag created --since 2h
  merlin dlq redrive payments --rate 500
  merlin dlq export payments --output dead.jsonl`,
	}, a.dlqList(), a.dlqShow(), a.dlqRedrive(), a.dlqExport(), a.dlqPurge())
}

// deadFilterFlags are the flags that choose dead letters.
type deadFilterFlags struct {
	client.DeadFilter
	since, until string
	properties   []string
}

func (f *deadFilterFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "died at or after: a time (RFC 3339), or a duration ago")
	flags.StringVar(&f.until, "until", "", "died before: likewise")
	flags.StringVar(&f.DeadFilter.Topic, "origin", "", "that came from this topic")
	flags.StringVarP(&f.Key, "key", "k", "", "with this key or unique key")
	flags.StringVar(&f.Tag, "tag", "", "with this tag")
	flags.StringArrayVarP(&f.properties, "property", "p", nil, "with this property, NAME=VALUE; may be repeated")
	flags.StringVar(&f.DeadFilter.ID, "message", "", "with this message id: unique key or offset id, its own or the original's")
	flags.StringVar(&f.Reason, "reason", "", "with this reason: MAX_ATTEMPTS, CONSUMER, ORDERLY or SENT")
}

func (f *deadFilterFlags) read(cmd *cobra.Command) (err error) {
	if f.From, err = parseMoment(f.since); err != nil {
		return usagef(cmd, "--since %w", err)
	}
	if f.To, err = parseMoment(f.until); err != nil {
		return usagef(cmd, "--until %w", err)
	}
	for _, pair := range f.properties {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return usagef(cmd, "--property %s: want NAME=VALUE", pair)
		}
		if f.Properties == nil {
			f.Properties = map[string]string{}
		}
		f.Properties[name] = value
	}
	return nil
}

func (a *app) dlqList() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the groups that have dead letters",
		Long: `Lists groups with how many dead letters they have at each broker, when the oldest and the
newest died, and which topics they came from. Where a group has more than 1000, the topics
are those of the oldest 500 and the newest 500.`,
		Example: `  merlin dlq list
  merlin dlq list --group payments --json`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				list, err := admin.DeadGroups(ctx, name)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"groups": list}, func(w io.Writer) { a.dlqRows(w, list) })
			})
		},
	}
	cmd.Flags().StringVarP(&name, "group", "g", "", "of this group alone")
	return cmd
}

func (a *app) dlqRows(w io.Writer, list []client.DeadGroup) {
	r := &rows{head: []any{"GROUP", "MESSAGES", "OLDEST", "NEWEST", "TOPICS", "RE-DRIVES", "BROKER"}, nums: []int{2, 6}}
	for _, g := range list {
		topics := make([]string, 0, len(g.Topics))
		for _, t := range g.Topics {
			topics = append(topics, fmt.Sprintf("%s (%d)", orDash(t.Topic), t.Count))
		}
		text := strings.Join(topics, ", ")
		if g.Sampled {
			text += " of a sample"
		}
		r.add(g.Group, g.Messages, when(&g.Oldest.Time), when(&g.Newest.Time), orDash(text), g.Running, g.Broker)
	}
	a.table(w, r)
}

func (a *app) dlqShow() *cobra.Command {
	var f deadFilterFlags
	var q client.DeadQuery
	var limit int
	cmd := &cobra.Command{
		Use:   "show GROUP",
		Short: "Show dead letters with the reason and the attempts",
		Long: `Shows the dead letters of a group, oldest first, with why they are dead, and when and at
which client each attempt failed. Where more follow, the last line, or "next" with
--json, is what --after wants for the next page.`,
		Example: `  merlin dlq show payments
  merlin dlq show payments --key order-17 --full
  merlin dlq show payments --since 2h --property region=eu --json`,
		Args: args(cobra.ExactArgs(1), "one GROUP"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := f.read(cmd); err != nil {
				return err
			}
			if limit < 1 || limit > 10_000 {
				return usagef(cmd, "--max %d: want 1 to 10000", limit)
			}
			q.Group, q.Filter = given[0], f.DeadFilter
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				list := []client.DeadLetter{}
				next, err := admin.EachDead(ctx, q, func(l *client.DeadLetter) bool {
					list = append(list, *l)
					return len(list) < limit
				})
				if err != nil {
					return err
				}
				return a.print(map[string]any{"letters": list, "next": next}, func(w io.Writer) {
					deadViews(w, list, q.Full)
					if next != "" {
						fmt.Fprintf(w, "\nmore: --after '%s'\n", next)
					}
				})
			})
		},
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.IntVarP(&limit, "max", "n", 20, "at most so many")
	flags.StringVar(&q.After, "after", "", "go on where an earlier page ended")
	flags.BoolVar(&q.Full, "full", false, "with properties and bodies")
	return cmd
}

// deadReasons are the broker's reasons in words.
var deadReasons = map[string]string{
	"MAX_ATTEMPTS": "it failed as often as it may", "CONSUMER": "its consumer asked for it",
	"ORDERLY": "an orderly consumer gave it up", "SENT": "a client sent it to the dead letters",
}

func deadViews(w io.Writer, list []client.DeadLetter, full bool) {
	for i, l := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "dead letter %d, broker %s\n", l.Offset, l.Broker)
		reason := deadReasons[l.Reason]
		if reason == "" {
			reason = orDash(l.Reason)
		}
		if l.Limit >= 0 {
			reason += fmt.Sprintf(" (%d retries are allowed)", l.Limit)
		}
		fmt.Fprintf(w, "died       %s, %s\n", when(&l.Time.Time), reason)
		origin := orDash(l.Topic)
		if l.Queue >= 0 {
			origin += fmt.Sprintf(", queue %d", l.Queue)
		}
		fmt.Fprintf(w, "topic      %s\n", origin)
		fmt.Fprintf(w, "id         %s\n", orDash(l.UniqueKey))
		fmt.Fprintf(w, "offset id  %s, first %s\n", l.ID, orDash(l.OriginID))
		fmt.Fprintf(w, "keys       %s, tag %s\n", orDash(l.Keys), orDash(l.Tags))
		for n, t := range l.Attempts {
			fmt.Fprintf(w, "attempt %-2d %s at %s\n", n+1, when(&t.Time.Time), t.Client)
		}
		if l.Redrive != "" {
			fmt.Fprintf(w, "re-drive   it failed again after %s\n", l.Redrive)
		}
		if !full {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(l.Properties)) {
			fmt.Fprintf(w, "property   %s = %q\n", name, l.Properties[name])
		}
		fmt.Fprintf(w, "body       %d bytes\n%s\n", l.Size, l.Body)
	}
}

func (a *app) dlqExport() *cobra.Command {
	var f deadFilterFlags
	var output string
	cmd := &cobra.Command{
		Use:   "export GROUP",
		Short: "Write dead letters as JSON lines, with their bodies",
		Long: `Writes one JSON object a line for each dead letter of a group, with properties, attempts
and the body in base64. The dead letters stay where they are.`,
		Example: `  merlin dlq export payments > dead.jsonl
  merlin dlq export payments --since 24h --output dead.jsonl`,
		Args: args(cobra.ExactArgs(1), "one GROUP"),
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := f.read(cmd); err != nil {
				return err
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				return a.toFile(output, func(w io.Writer) error {
					bar := a.progress("exporting")
					defer bar.done()
					n := int64(0)
					var failed error
					_, err := admin.EachDead(ctx, client.DeadQuery{Group: given[0], Filter: f.DeadFilter, Full: true}, func(l *client.DeadLetter) bool {
						failed = writeLine(w, l)
						n++
						bar.set(n, 0)
						return failed == nil
					})
					return errors.Join(err, failed)
				})
			})
		},
	}
	f.register(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this file, which must not be there yet")
	return cmd
}

// toFile lets write write to a new file, or to the output if there is no name.
func (a *app) toFile(name string, write func(w io.Writer) error) error {
	to, closing := a.out, func() error { return nil }
	if name != "" {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		to, closing = f, f.Close
	}
	w := bufio.NewWriter(to)
	err := write(w)
	return errors.Join(err, w.Flush(), closing())
}

func (a *app) dlqPurge() *cobra.Command {
	var before string
	var dryRun, yes bool
	cmd := &cobra.Command{
		Use:   "purge GROUP",
		Short: "Take dead letters out of their queue",
		Long: `Makes the dead-letter queue of a group begin behind those that died before a time, or
behind all of them. They are not listed, shown, re-driven or consumed any more. Their
records stay in the log until their part of it is deleted. It is refused while a
re-drive still has to read them.`,
		Example: `  merlin dlq purge payments --before 168h --dry-run
  merlin dlq purge payments --before 2026-11-01T00:00:00Z --yes`,
		Args: args(cobra.ExactArgs(1), "one GROUP"),
		RunE: func(cmd *cobra.Command, given []string) error {
			t, err := parseMoment(before)
			if err != nil {
				return usagef(cmd, "--before %w", err)
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				n, err := admin.PurgeDead(ctx, given[0], t, dryRun || !yes)
				if err != nil {
					return err
				}
				if !yes && !dryRun {
					return usagef(cmd, "%d dead letters of %s would go; say --yes to do it", n, given[0])
				}
				return a.print(map[string]any{"group": given[0], "purged": n, "dry_run": dryRun}, func(w io.Writer) {
					what := "were purged"
					if dryRun {
						what = "would be purged"
					}
					fmt.Fprintf(w, "%d dead letters of %s %s\n", n, given[0], what)
				})
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&before, "before", "", "only those that died before: a time (RFC 3339), or a duration ago")
	flags.BoolVar(&dryRun, "dry-run", false, "only say how many")
	flags.BoolVar(&yes, "yes", false, "do it")
	return cmd
}
