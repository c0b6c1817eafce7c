package main

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

type consumeFlags struct {
	group  string
	tag    string
	sql    string
	from   string
	queue  int
	count  int
	follow bool
	raw    bool
	idle   time.Duration
}

func (a *app) consumeCommand() *cobra.Command {
	f := consumeFlags{}
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Read messages",
		Long: `Reads a topic's messages and prints them.

Without --group it only looks: nothing is committed, no group is left behind, and
other consumers do not notice. It prints what is there, in the order of storing,
and with --follow goes on for what arrives.

With --group it is a member of that consumer group: it shares the queues with the
other members and commits what it has printed. --from then says where a group
begins that has committed nothing in the topic yet, has no member, and no
initialPosition of its own ('merlin group set'). Without --follow it ends when
nothing has come for --idle.

With --json each message is one JSON object on a line.`,
		Example: `  merlin consume orders
  merlin consume orders --from latest --follow
  merlin consume orders --from 2026-11-21T08:00:00Z --tag 'created || paid'
  merlin consume orders --from 15m --json | jq -r .body
  merlin consume orders --group billing --count 10`,
		Args: args(cobra.ExactArgs(1), "one TOPIC"),
		RunE: func(cmd *cobra.Command, given []string) error { return a.consume(cmd, given[0], &f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.group, "group", "g", "", "consumer group to be a member of")
	fl.StringVarP(&f.tag, "tag", "t", "", "only messages with these tags, as 'A || B'")
	fl.StringVar(&f.sql, "sql", "", "only messages that match this SQL92 expression, as 'price > 10'")
	fl.StringVar(&f.from, "from", "earliest", "where to begin: earliest, latest, a time (RFC 3339), or a duration back from now")
	fl.IntVarP(&f.queue, "queue", "q", -1, "only this queue (without --group)")
	fl.IntVarP(&f.count, "count", "n", 0, "end after so many messages")
	fl.BoolVarP(&f.follow, "follow", "f", false, "go on for what arrives")
	fl.BoolVar(&f.raw, "raw", false, "print bodies alone, each followed by a line break")
	fl.DurationVar(&f.idle, "idle", 5*time.Second, "with --group and without --follow: end when nothing has come for so long")
	return cmd
}

func (a *app) consume(cmd *cobra.Command, topic string, f *consumeFlags) error {
	from, err := client.ParseWhere(f.from, time.Now())
	switch {
	case err != nil:
		return usagef(cmd, "--from %w", err)
	case f.tag != "" && f.sql != "":
		return usagef(cmd, "--tag and --sql contradict each other; give one")
	case f.count < 0:
		return usagef(cmd, "--count %d: want 1 or more", f.count)
	case f.group != "" && f.queue >= 0:
		return usagef(cmd, "--queue goes without --group only: a group's queues are shared out")
	case f.raw && a.json:
		return usagef(cmd, "--raw and --json contradict each other; give one")
	}
	seen := 0
	each := func(m *client.Message) error {
		if err := a.printMessage(m, f.raw); err != nil {
			return err
		}
		if seen++; seen == f.count {
			return client.Stop()
		}
		return nil
	}
	return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
		if f.group == "" {
			return admin.Read(ctx, client.ReadOptions{Topic: topic, From: from, Tags: f.tag, SQL: f.sql, Queue: f.queue, Follow: f.follow}, each)
		}
		o := client.ConsumeOptions{Group: f.group, Topic: topic, Tags: f.tag, SQL: f.sql, From: from, Idle: f.idle}
		if f.follow {
			o.Idle = 0
		}
		return admin.Consume(ctx, o, each)
	})
}

func (a *app) printMessage(m *client.Message, raw bool) error {
	if a.json {
		return a.printLine(m)
	}
	if raw {
		_, err := fmt.Fprintf(a.out, "%s\n", m.Body)
		return err
	}
	where := fmt.Sprintf("%d@%d", m.Queue, m.Offset)
	if m.Broker != "" {
		where = m.Broker + "/" + where
	}
	_, err := fmt.Fprintf(a.out, "%s  %s  tag=%s key=%s  %s\n", when(&m.Stored), where, orDash(m.Tags), orDash(m.Keys), showBody(m))
	return err
}

// shownBody is how much of a body a line shows.
const shownBody = 1000

// showBody writes a body on one line: text as it is, anything else by its size.
func showBody(m *client.Message) string {
	if m.Compression != "" {
		return fmt.Sprintf("(%d bytes, compressed with %s)", len(m.Body), m.Compression)
	}
	text := string(m.Body)
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && !unicode.IsSpace(r) }) {
		return fmt.Sprintf("(%d bytes that are no text)", len(m.Body))
	}
	text = strings.NewReplacer("\n", "⏎", "\r", "", "\t", " ").Replace(text)
	if r := []rune(text); len(r) > shownBody {
		text = fmt.Sprintf("%s… (%d bytes)", string(r[:shownBody]), len(m.Body))
	}
	return text
}
