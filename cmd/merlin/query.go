package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) queryCommand() *cobra.Command {
	var (
		id, key, topic string
		begin, end     string
		limit          int
	)
	cmd := &cobra.Command{
		Use:   "query --id ID | --key KEY --topic TOPIC",
		Short: "Find stored messages by id or key",
		Long: `Finds messages by key, or one message by its id: the unique id that producers
print, or the offset id that brokers answer. A unique id without --topic is looked
for in all topics. It fails when there is no such message.`,
		Example: `  merlin query --id 7F0000010B2C000000000A1B2C3D0001
  merlin query --key order-17 --topic orders
  merlin query --key order-17 --topic orders --begin 1h --json`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case (id == "") == (key == ""):
				return usagef(cmd, "give either --id or --key")
			case key != "" && topic == "":
				return usagef(cmd, "--key needs --topic: keys are indexed by topic")
			case limit < 1:
				return usagef(cmd, "--max %d: want 1 or more", limit)
			}
			q := client.KeyQuery{Topic: topic, Key: key, Max: limit}
			var err error
			if q.Begin, err = parseMoment(begin); err != nil {
				return usagef(cmd, "--begin %w", err)
			}
			if q.End, err = parseMoment(end); err != nil {
				return usagef(cmd, "--end %w", err)
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				found, err := a.find(ctx, admin, id, q)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"messages": found}, func(w io.Writer) { a.messages(w, found) })
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&id, "id", "", "unique id or offset id")
	f.StringVarP(&key, "key", "k", "", "key")
	f.StringVarP(&topic, "topic", "t", "", "topic")
	f.StringVar(&begin, "begin", "", "stored not before: a time (RFC 3339), or a duration back from now")
	f.StringVar(&end, "end", "", "stored not after: likewise")
	f.IntVarP(&limit, "max", "n", 32, "at most so many messages")
	return cmd
}

func (a *app) find(ctx context.Context, admin *client.Admin, id string, q client.KeyQuery) ([]*client.Message, error) {
	if id != "" {
		bar := a.progress("asking topics")
		defer bar.done()
		return admin.MessageByID(ctx, id, q.Topic, func(done, total int) { bar.set(int64(done), int64(total)) })
	}
	found, err := admin.MessagesByKey(ctx, q)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no message of topic %s has the key %q: %w", q.Topic, q.Key, client.ErrNotFound)
	}
	return found, err
}

// parseMoment reads a time or a duration back from now; "" is no time.
func parseMoment(text string) (time.Time, error) { return parseTime(text, "back from", -1) }

// parseComing reads a time, or a duration from now on.
func parseComing(text string) (time.Time, error) { return parseTime(text, "from", 1) }

func parseTime(text, way string, sign time.Duration) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("%s: want a time as 2030-11-21T13:00:00.250Z, or a duration %s now as 15m", text, way)
	}
	return time.Now().Add(sign * d), nil
}

// messages shows messages in full.
func (a *app) messages(w io.Writer, list []*client.Message) {
	for i, m := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "topic      %s\n", m.Topic)
		fmt.Fprintf(w, "place      broker %s, queue %d, offset %d, position %d\n", orDash(m.Broker), m.Queue, m.Offset, m.Position)
		fmt.Fprintf(w, "id         %s\n", m.ID)
		fmt.Fprintf(w, "offset id  %s\n", m.OffsetID)
		fmt.Fprintf(w, "born       %s at %s\n", when(&m.Born), m.BornHost)
		fmt.Fprintf(w, "stored     %s at %s\n", when(&m.Stored), m.StoreHost)
		if m.Reconsumed > 0 {
			fmt.Fprintf(w, "retried    %d times\n", m.Reconsumed)
		}
		for _, k := range slices.Sorted(maps.Keys(m.Properties)) {
			fmt.Fprintf(w, "property   %s=%s\n", k, m.Properties[k])
		}
		fmt.Fprintf(w, "body       %s\n", showBody(m))
	}
}
