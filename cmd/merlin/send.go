package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
	"github.com/merlinmq/merlin/message"
)

type sendFlags struct {
	tag     string
	keys    []string
	props   []string
	queue   int
	broker  string
	count   int
	file    string
	delay   string
	timeout time.Duration
}

func (a *app) sendCommand() *cobra.Command {
	f := sendFlags{}
	cmd := &cobra.Command{
		Use:   "send TOPIC [BODY]",
		Short: "Send messages",
		Long: `Sends a message and says where it was stored. The body is the second argument,
a file's content with --file, or what standard input holds when it is '-' or
left out. With --count the same message is sent so many times; %d in the body,
the key or a property then becomes its number, from 1.`,
		Example: `  merlin send orders 'hello'
  merlin send orders '{"id":17}' --tag created --key order-17 --prop region=eu
  merlin send orders 'message %d' --count 100
  merlin send orders 'later' --delay 30s
  date | merlin send orders
  merlin send orders --file order.json --queue 3`,
		Args: args(cobra.RangeArgs(1, 2), "a TOPIC and at most one BODY"),
		RunE: func(cmd *cobra.Command, given []string) error { return a.send(cmd, given, &f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.tag, "tag", "t", "", "tag")
	fl.StringArrayVarP(&f.keys, "key", "k", nil, "key to find the message by, repeatable")
	fl.StringArrayVarP(&f.props, "prop", "p", nil, "property k=v, repeatable")
	fl.IntVarP(&f.queue, "queue", "q", -1, "queue to send to; -1 takes one after the other")
	fl.StringVarP(&f.broker, "broker", "b", "", "broker to send to, by name")
	fl.IntVarP(&f.count, "count", "n", 1, "how many")
	fl.StringVarP(&f.file, "file", "f", "", "file that holds the body")
	fl.StringVar(&f.delay, "delay", "", "deliver later: a duration as 30s, or a delay level as 3")
	fl.DurationVar(&f.timeout, "timeout", 3*time.Second, "how long one send may take")
	return cmd
}

func (a *app) send(cmd *cobra.Command, given []string, f *sendFlags) error {
	props, err := parsePairs(f.props)
	if err != nil {
		return usagef(cmd, "--prop: %w", err)
	}
	if props, err = withDelay(props, f.delay); err != nil {
		return usagef(cmd, "--delay: %w", err)
	}
	if f.count < 1 {
		return usagef(cmd, "--count %d: want 1 or more", f.count)
	}
	if f.queue < -1 {
		return usagef(cmd, "--queue %d: want a queue's number, or -1", f.queue)
	}
	body, err := a.bodyOf(cmd, given, f.file)
	if err != nil {
		return err
	}
	return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) (err error) {
		p, err := admin.NewProducer(ctx, client.ProducerOptions{Timeout: f.timeout})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.Close()) }()
		bar := a.progress("sending")
		defer bar.done()
		for i := 1; i <= f.count; i++ {
			r, err := p.Send(ctx, numbered(given[0], body, f, props, i))
			if err != nil {
				if i > 1 {
					err = fmt.Errorf("%w (after %d messages)", err, i-1)
				}
				return err
			}
			bar.set(int64(i), int64(f.count))
			if a.json {
				if err := a.printLine(r); err != nil {
					return err
				}
			} else if f.count == 1 {
				fmt.Fprintf(a.out, "%s to %s queue %d at offset %d, id %s\n", status(r.Status), r.Broker, r.Queue, r.Offset, r.ID)
			}
		}
		if !a.json && f.count > 1 {
			fmt.Fprintf(a.out, "sent %d messages to topic %s\n", f.count, given[0])
		}
		return nil
	})
}

func status(s string) string {
	if s == "SEND_OK" {
		return "sent"
	}
	return "sent, but " + s + ","
}

// withDelay adds the property of a delay level or a duration.
func withDelay(props map[string]string, delay string) (map[string]string, error) {
	if delay == "" {
		return props, nil
	}
	level, d, err := parseDelay(delay)
	if err != nil {
		return nil, err
	}
	if props == nil {
		props = map[string]string{}
	}
	if level > 0 {
		props[message.PropDelay] = fmt.Sprint(level)
	} else {
		props[message.PropTimerDelayMs] = fmt.Sprint(d.Milliseconds())
	}
	return props, nil
}

// bodyOf finds the body: argument, file, or standard input.
func (a *app) bodyOf(cmd *cobra.Command, given []string, file string) ([]byte, error) {
	switch {
	case file != "" && len(given) == 2:
		return nil, usagef(cmd, "a BODY and --file contradict each other; give one")
	case file != "":
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the body: %w", err)
		}
		return b, nil
	case len(given) == 2 && given[1] != "-":
		return []byte(given[1]), nil
	case len(given) == 1 && a.inTerminal:
		return nil, usagef(cmd, "no BODY: give it as an argument, with --file, or on standard input")
	}
	b, err := io.ReadAll(a.in)
	if err != nil {
		return nil, fmt.Errorf("read the body from standard input: %w", err)
	}
	return b, nil
}
