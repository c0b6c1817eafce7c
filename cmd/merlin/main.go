// Command merlin is the message server and everything one does with it: name
// server and broker, the tools to look at a cluster and change it, to send and
// read messages, and to measure any server that speaks RocketMQ's remoting
// protocol.
//
// It exits with 0 when what was asked for was done, 1 when it failed, and 2
// when it was called wrongly. One file holds one command.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], systemStreams())
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(s.err, "merlin: %s\n", oneLine(err))
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(s.err, "Run '%s --help' for how it is used.\n", usage.command)
		return exitUsage
	}
	return exitFailed
}

// oneLine joins what several causes say.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

// usageError says that a command was called wrongly.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError of the command.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd.CommandPath(), fmt.Errorf(format, args...)}
}

// args gives a command's check of its arguments the exit code of wrong usage.
func args(check cobra.PositionalArgs, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return usagef(cmd, "%s wants %s, not %d arguments", cmd.CommandPath(), want, len(given))
		}
		return nil
	}
}

// app is what the commands share: the streams and the global flags.
type app struct {
	streams
	nameServers string
	json        bool
}

func newRoot(s streams) *cobra.Command {
	a := &app{streams: s}
	root := &cobra.Command{
		Use:   "merlin",
		Short: "A message server that speaks RocketMQ, and its tools",
		Long: `merlin is a message server that RocketMQ's clients use as they are, in one binary,
together with the tools to look at it, change it and measure it. The tools work
with Apache RocketMQ's name servers and brokers as well.

With --json a command prints one JSON document, or one JSON object a line where
it prints a stream of messages or serves. Exit codes: 0 done, 1 failed, 2 called wrongly.`,
		Example: `  merlin topic create orders
  merlin send orders 'hello' --tag created --key order-1
  merlin consume orders --from earliest
  merlin topic list --namesrv 10.0.0.5:9876 --json`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) > 0 {
				return usagef(cmd, "there is no command %q", given[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usagef(cmd, "%w", err) })
	root.PersistentFlags().StringVar(&a.nameServers, "namesrv", "", "name servers, HOST:PORT;HOST:PORT (default $NAMESRV_ADDR, else "+client.DefaultNameServer+")")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.AddCommand(
		a.serverCommand(),
		a.nameServerCommand(),
		a.brokerCommand(),
		a.topicCommand(),
		a.groupCommand(),
		a.offsetCommand(),
		a.sendCommand(),
		a.consumeCommand(),
		a.queryCommand(),
		a.txnCommand(),
		a.dlqCommand(),
		a.whyCommand(),
		a.delayCommand(),
		a.cronCommand(),
		a.benchCommand(),
		a.storeCommand(),
	)
	return root
}

// nameServerList returns the name servers that the flag, the environment or
// the default say.
func (a *app) nameServerList(cmd *cobra.Command) ([]string, error) {
	list, from := a.nameServers, "--namesrv"
	if list == "" {
		list, from = a.env("NAMESRV_ADDR"), "NAMESRV_ADDR"
	}
	if list == "" {
		list = client.DefaultNameServer
	}
	addrs, err := client.ParseNameServers(list)
	if err != nil {
		return nil, usagef(cmd, "%s: %w", from, err)
	}
	return addrs, nil
}

// withAdmin runs f with an Admin of the chosen name servers. A terminal shows
// that it works when f is silent for long.
func (a *app) withAdmin(cmd *cobra.Command, f func(ctx context.Context, admin *client.Admin) error) error {
	addrs, err := a.nameServerList(cmd)
	if err != nil {
		return err
	}
	admin, err := client.Open(client.Options{NameServers: addrs})
	if err != nil {
		return err
	}
	defer a.spin(cmd.CommandPath())()
	return errors.Join(f(cmd.Context(), admin), admin.Close())
}

// group makes a command that only holds others.
func group(cmd *cobra.Command, children ...*cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if len(given) > 0 {
			return usagef(cmd, "%s has no command %q", cmd.CommandPath(), given[0])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cmd.Help(); err != nil {
			return err
		}
		return usagef(cmd, "%s needs one of its commands", cmd.CommandPath())
	}
	cmd.AddCommand(children...)
	return cmd
}

// streams are where a command reads and writes.
type streams struct {
	in          io.Reader
	out, err    io.Writer
	inTerminal  bool // somebody types
	outTerminal bool
	errTerminal bool
	env         func(string) string
	width       int // of the terminal, 0 if unknown
}
