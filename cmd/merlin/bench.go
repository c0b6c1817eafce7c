package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client/bench"
)

func (a *app) benchCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "bench",
		Short: "Measure any server that speaks RocketMQ's remoting protocol",
		Long: `Loads one broker with raw frames and measures it: messages a second, latency
percentiles over every message, and with --pid the CPU time that the server takes
for a message and its anonymous memory. The warm-up is left out. What was sent is
read back at the end and compared key by key.

The load shares the machine with the server, so it is made to cost little: what it
takes itself is printed beside the server's share, and 'bench null' shows how much
the machine and the load allow at all.`,
		Example: `  merlin bench produce --addr 127.0.0.1:10911 --pid $(pgrep -f 'merlin server')
  merlin bench consume --addr 127.0.0.1:10911
  merlin bench compare --addr 127.0.0.1:10911 --addr 127.0.0.1:20911 --pid 4711 --pid 4712
  merlin bench null --listen 127.0.0.1:10999`,
	}, a.benchProduce(), a.benchConsume(), a.benchPop(), a.benchCompare(), a.benchNull(), a.benchDisk())
}

// produceFlags are the flags of a produce run.
type produceFlags struct {
	o       bench.ProduceOptions
	delay   string
	keys    bool
	tags    bool
	syncOne bool
}

func (p *produceFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&p.o.Topic, "topic", "t", "bench", "topic; created if missing")
	f.StringVar(&p.o.Group, "group", "bench", "producer group")
	f.IntVar(&p.o.Size, "size", 1024, "bytes of a body")
	f.IntVarP(&p.o.Conns, "conns", "c", 8, "connections")
	f.IntVarP(&p.o.InFlight, "inflight", "i", 16, "requests in flight on each connection")
	f.IntVar(&p.o.Batch, "batch", 1, "messages in a request")
	f.Float64Var(&p.o.Rate, "rate", 0, "messages a second over all connections; 0 sends as fast as answers come. With a rate, latency counts from when a message was due")
	f.DurationVarP(&p.o.Duration, "duration", "d", 10*time.Second, "measured time")
	f.Int64VarP(&p.o.Count, "count", "n", 0, "measured messages, instead of a time")
	f.DurationVar(&p.o.Warmup, "warmup", 2*time.Second, "time before the measured one (give a JVM 20s)")
	f.IntVarP(&p.o.Queues, "queues", "q", 8, "queues to spread over")
	f.BoolVar(&p.keys, "keys", true, "set a key on every message; without keys the read back only counts")
	f.BoolVar(&p.tags, "tags", true, "set a tag on every message")
	f.BoolVar(&p.o.Txn, "txn", false, "transactions: a half message and its commit; both count as one message")
	f.StringVar(&p.delay, "delay", "", "delayed messages: a duration as 5s, or a delay level as 3")
	f.BoolVar(&p.syncOne, "sync-one", false, "one connection with one request in flight: the latency of a lone producer")
	f.BoolVar(&p.o.NoVerify, "no-verify", false, "leave the read back out")
	f.DurationVar(&p.o.Timeout, "timeout", 15*time.Second, "how long an answer may take before the run is given up")
}

// options checks the flags and returns what they say.
func (p *produceFlags) options(cmd *cobra.Command) (bench.ProduceOptions, error) {
	o := p.o
	o.NoKeys, o.NoTags = !p.keys, !p.tags
	var err error
	if o.Level, o.Delay, err = parseDelay(p.delay); err != nil {
		return o, usagef(cmd, "--delay %w", err)
	}
	if o.Count > 0 {
		if cmd.Flags().Changed("duration") {
			return o, usagef(cmd, "--count and --duration contradict each other; give one")
		}
		o.Duration = 0
	}
	if p.syncOne {
		if cmd.Flags().Changed("conns") || cmd.Flags().Changed("inflight") {
			return o, usagef(cmd, "--sync-one is one connection with one request in flight; leave --conns and --inflight out")
		}
		o.Conns, o.InFlight = 1, 1
	}
	for name, v := range map[string]int{"--size": o.Size, "--conns": o.Conns, "--inflight": o.InFlight, "--batch": o.Batch, "--queues": o.Queues} {
		if v < 1 {
			return o, usagef(cmd, "%s %d: want 1 or more", name, v)
		}
	}
	return o, nil
}

func (a *app) benchProduce() *cobra.Command {
	p := produceFlags{}
	cmd := &cobra.Command{
		Use:   "produce",
		Short: "Send messages and measure",
		Example: `  merlin bench produce --addr 127.0.0.1:10911
  merlin bench produce --addr 127.0.0.1:10911 --pid 4711 --size 1024 --conns 8 --inflight 16 --warmup 20s
  merlin bench produce --addr 127.0.0.1:10911 --rate 10000         latency at a fixed rate
  merlin bench produce --addr 127.0.0.1:10911 --sync-one           latency of a lone producer
  merlin bench produce --addr 127.0.0.1:10911 --batch 32
  merlin bench produce --addr 127.0.0.1:10911 --txn
  merlin bench produce --addr 127.0.0.1:10911 --rate 1000 --delay 5s`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := p.options(cmd)
			if err != nil {
				return err
			}
			bar := a.benchProgress()
			o.Progress = bar.tell
			r, err := bench.Produce(cmd.Context(), o)
			bar.done()
			if r == nil {
				return err
			}
			return errors.Join(a.print(r, func(w writer) { printProduce(w, r) }), err)
		},
	}
	p.register(cmd)
	cmd.Flags().StringVar(&p.o.Addr, "addr", "127.0.0.1:10911", "broker to load, HOST:PORT")
	cmd.Flags().IntVar(&p.o.PID, "pid", 0, "the server's process on this machine, for its CPU time and memory")
	return cmd
}

// filterFlag registers the filter of a read.
func filterFlag(cmd *cobra.Command, o *bench.ConsumeOptions) {
	cmd.Flags().StringVar(&o.SQL, "sql", "", "filter by this SQL92 expression: what counts then is the messages that the server scans. Leaves the group bench-filter behind")
}

func (a *app) benchConsume() *cobra.Command {
	o := bench.ConsumeOptions{}
	cmd := &cobra.Command{
		Use:   "consume",
		Short: "Pull a topic's messages and measure",
		Long: `Pulls everything that a topic holds, or its newest messages with --last, once. With
--duration it reads over and over for so long, after a warm-up. It commits nothing and
leaves no group behind.`,
		Example: `  merlin bench consume --addr 127.0.0.1:10911 --pid 4711
  merlin bench consume --addr 127.0.0.1:10911 --warmup 20s --duration 10s --batch 32
  merlin bench consume --addr 127.0.0.1:10911 --rate 10000         latency at a fixed rate
  merlin bench consume --addr 127.0.0.1:10911 --sql "KEYS ENDSWITH '777'" --warmup 10s --duration 10s`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Conns < 1 || o.Pull < 1 || o.InFlight < 1 {
				return usagef(cmd, "--conns, --batch and --inflight: want 1 or more")
			}
			if o.Rate < 0 {
				return usagef(cmd, "--rate %g: want messages a second, or 0 for as fast as answers come", o.Rate)
			}
			if o.Warmup > 0 && o.Duration == 0 {
				return usagef(cmd, "--warmup needs --duration: reading everything once has no measured part of its own")
			}
			bar := a.benchProgress()
			o.Progress = bar.tell
			r, err := bench.Consume(cmd.Context(), o)
			bar.done()
			if r == nil {
				return err
			}
			return errors.Join(a.print(r, func(w writer) { printConsume(w, r) }), err)
		},
	}
	filterFlag(cmd, &o)
	f := cmd.Flags()
	f.IntVarP(&o.InFlight, "inflight", "i", 1, "pulls in flight on each connection")
	f.IntVar(&o.Pull, "batch", 32, "messages asked for by a pull")
	f.Float64Var(&o.Rate, "rate", 0, "messages a second over all connections; 0 pulls as fast as answers come. With a rate, latency counts from when a pull was due")
	f.StringVar(&o.Addr, "addr", "127.0.0.1:10911", "broker to load, HOST:PORT")
	f.StringVarP(&o.Topic, "topic", "t", "bench", "topic")
	f.IntVarP(&o.Conns, "conns", "c", 8, "connections")
	f.DurationVarP(&o.Duration, "duration", "d", 0, "read over and over for so long; 0 reads everything once")
	f.DurationVar(&o.Warmup, "warmup", 0, "time before the measured one")
	f.Int64Var(&o.Last, "last", 0, "read only the newest so many messages; 0 reads all")
	f.IntVar(&o.PID, "pid", 0, "the server's process on this machine, for its CPU time and memory")
	f.DurationVar(&o.Timeout, "timeout", 15*time.Second, "how long an answer may take before the run is given up")
	return cmd
}

func (a *app) benchNull() *cobra.Command {
	var addr string
	cmd := &cobra.Command{
		Use:   "null",
		Short: "A server that answers every frame and stores nothing: the ceiling of a machine",
		Long: `Answers every request like a stored message, until it is interrupted. Load it with
'merlin bench produce --no-verify' to see what the machine and the load allow.

With --json it prints two objects: {"event":"listening","what","address","pid"}, and at its end
{"event":"ended","answered"}.`,
		Example: `  merlin bench null --listen 127.0.0.1:10999 &
  merlin bench produce --addr 127.0.0.1:10999 --no-verify --pid $!`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := bench.ListenNull(addr)
			if err != nil {
				return err
			}
			addr, pid := fmt.Sprint(n.Addr()), os.Getpid()
			a.announce(startLine{Event: "listening", What: "null server", Address: addr, PID: pid, plain: fmt.Sprintf("null server listening on %s, pid %d", addr, pid)})
			err = n.Run(cmd.Context())
			if a.json {
				return errors.Join(err, a.printLine(map[string]any{"event": "ended", "answered": n.Answered()}))
			}
			fmt.Fprintf(a.err, "answered %s requests\n", humanize.Comma(n.Answered()))
			return err
		},
	}
	cmd.Flags().StringVar(&addr, "listen", "127.0.0.1:10999", "address to listen on; port 0 picks one")
	return cmd
}

// benchBar shows the phases of a run.
type benchBar struct{ *progress }

func (a *app) benchProgress() *benchBar { return &benchBar{a.progress("")} }

func (b *benchBar) tell(p bench.Progress) {
	b.phase(p.Phase)
	if p.Of > 0 {
		b.set(min(p.Spent, p.Of).Milliseconds(), p.Of.Milliseconds())
	} else {
		b.set(p.Done, p.Total)
	}
}

func (a *app) benchCompare() *cobra.Command {
	var (
		p       produceFlags
		o       bench.CompareOptions
		addrs   []string
		pids    []int
		names   []string
		readFor time.Duration
	)
	cmd := &cobra.Command{
		Use:   "compare --addr A --addr B",
		Short: "Measure two servers in turns, A B A B …, and print the ratio",
		Long: `Runs 'bench produce', and with --consume also 'bench consume' on what it sent, against two
servers in turns, so that a machine whose speed drifts treats both alike. The ratio is the
median of the rounds' own ratios; the figures of a side are medians over its rounds.`,
		Example: `  merlin bench compare --addr 127.0.0.1:10911 --addr 127.0.0.1:20911 --name merlin --name apache \
      --pid 4711 --pid 4712 --warmup 20s --rounds 3 --consume`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			produce, err := p.options(cmd)
			if err != nil {
				return err
			}
			if len(addrs) != 2 || len(pids) > 2 || len(names) > 2 {
				return usagef(cmd, "give --addr twice, and --pid and --name at most twice, in the same order")
			}
			sides := [2]bench.Side{{Addr: addrs[0]}, {Addr: addrs[1]}}
			for i := range sides {
				if i < len(pids) {
					sides[i].PID = pids[i]
				}
				if i < len(names) {
					sides[i].Name = names[i]
				}
			}
			o.A, o.B, o.Produce = sides[0], sides[1], produce
			o.Pull.Warmup, o.Pull.Duration, o.Pull.Conns, o.Pull.Timeout = min(produce.Warmup, readFor), readFor, produce.Conns, produce.Timeout
			bar := a.benchProgress()
			o.Progress = func(side string, round int, now bench.Progress) {
				now.Phase = fmt.Sprintf("%s, round %d: %s", side, round, now.Phase)
				bar.tell(now)
			}
			o.Ran = func(side string, round int, made *bench.ProduceResult, read *bench.ConsumeResult) {
				bar.done()
				fmt.Fprintln(a.err, strings.TrimSpace(roundLine(side, round, made, read)))
			}
			c, err := bench.Compare(cmd.Context(), o)
			bar.done()
			if c == nil || err != nil {
				return err
			}
			return a.print(c, func(w writer) { a.printComparison(w, c) })
		},
	}
	p.register(cmd)
	filterFlag(cmd, &o.Pull)
	f := cmd.Flags()
	// --inflight and --batch are those of the sends.
	f.IntVar(&o.Pull.Pull, "pull", 32, "messages asked for by a pull")
	f.IntVar(&o.Pull.InFlight, "pulls", 1, "pulls in flight on each connection")
	f.StringArrayVar(&addrs, "addr", nil, "broker, HOST:PORT; twice")
	f.IntSliceVar(&pids, "pid", nil, "process of each server, twice, in the same order")
	f.StringArrayVar(&names, "name", nil, "name of each server, twice, in the same order")
	f.IntVar(&o.Rounds, "rounds", 3, "rounds of both")
	f.DurationVar(&o.Pause, "pause", 2*time.Second, "rest between two runs")
	f.DurationVar(&o.Settle, "settle", 2*time.Second, "warm-up of rounds after the first")
	f.BoolVar(&o.Consume, "consume", false, "measure reading back what was sent as well")
	f.DurationVar(&readFor, "read-for", 5*time.Second, "measured time of a read")
	return cmd
}
