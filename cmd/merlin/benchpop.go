package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client/bench"
)

func (a *app) benchPop() *cobra.Command {
	var (
		o      bench.PopOptions
		addrs  []string
		pids   []int
		rounds int
		pause  time.Duration
	)
	cmd := &cobra.Command{
		Use:   "pop",
		Short: "Pop a topic's messages, acknowledge them and measure",
		Long: `Consumes all that a topic holds once, with a new group that is deleted in the end:
each pop asks for --batch messages of any queue and acknowledges what it got in one
request, or with --ack-each every message in one of its own, as Java's push consumer
does. What is measured is both together. With two brokers they are measured in turns,
and the ratio is the median of the rounds' own ratios.`,
		Example: `  merlin bench produce --addr 127.0.0.1:10911 --batch 32 && merlin bench pop --addr 127.0.0.1:10911 --pid 4711
  merlin bench pop --addr 127.0.0.1:10911 --addr 127.0.0.1:20911 --pid 4711 --pid 4712 --rounds 3`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(addrs) == 0 || len(addrs) > 2 || len(pids) > len(addrs) {
				return usagef(cmd, "give --addr once or twice, and --pid at most as often, in the same order")
			}
			bar := a.benchProgress()
			sides := make([]bench.PopOptions, len(addrs))
			for i := range addrs {
				sides[i] = o
				sides[i].Addr, sides[i].Progress = addrs[i], bar.tell
				if i < len(pids) {
					sides[i].PID = pids[i]
				}
			}
			if len(sides) == 1 {
				r, err := bench.Pop(cmd.Context(), sides[0])
				bar.done()
				if r == nil {
					return err
				}
				return errors.Join(a.print(r, func(w writer) { printPop(w, r) }), err)
			}
			v, err := bench.ComparePop(cmd.Context(), sides[0], sides[1], rounds, pause, func(side, round int, r *bench.PopResult) {
				bar.done()
				line := fmt.Sprintf("round %d  %s pop: %s msg/s, p50 %s, p99 %s", round, addrs[side], humanize.Comma(int64(r.PerSecond)), micros(r.Latency.P50), micros(r.Latency.P99))
				if r.Server != nil {
					line += fmt.Sprintf(", %.2f µs CPU", r.Server.CPUPerMsg)
				}
				fmt.Fprintln(a.err, line)
			})
			bar.done()
			if err != nil {
				return err
			}
			return a.print(v, func(w writer) {
				fmt.Fprintf(w, "ratio  %.2f (%.2f to %.2f) times the messages a second of %s\n", v.Ratio, v.RatioLow, v.RatioHigh, addrs[1])
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&addrs, "addr", []string{"127.0.0.1:10911"}, "broker, HOST:PORT; once, or twice to compare")
	f.IntSliceVar(&pids, "pid", nil, "process of each server on this machine, for its CPU time and memory")
	f.StringVarP(&o.Topic, "topic", "t", "bench", "topic")
	f.StringVar(&o.Group, "group", "", "consumer group; default a new one")
	f.IntVarP(&o.Conns, "conns", "c", 8, "connections")
	f.IntVarP(&o.InFlight, "inflight", "i", 4, "pops in flight on each connection")
	f.IntVar(&o.Batch, "batch", 32, "messages asked for at a time")
	f.BoolVar(&o.AckEach, "ack-each", false, "acknowledge every message in a request of its own")
	f.DurationVar(&o.Timeout, "timeout", 15*time.Second, "how long an answer may take before the run is given up")
	f.IntVar(&rounds, "rounds", 3, "rounds of both, with two brokers")
	f.DurationVar(&pause, "pause", 2*time.Second, "rest between two runs, with two brokers")
	return cmd
}

func printPop(w writer, r *bench.PopResult) {
	o := r.Options
	fmt.Fprintf(w, "load        %s topic %s: pops of %d, %d connections x %d in flight, %s messages there\n",
		o.Addr, o.Topic, o.Batch, o.Conns, o.InFlight, humanize.Comma(r.Available))
	if o.AckEach {
		fmt.Fprintln(w, "            every message acknowledged by itself")
	}
	printWindow(w, r.Window, "popped and acknowledged")
	printLatency(w, "pop + ack", r.Latency)
	printProcesses(w, r.Window)
	if r.Twice > 0 {
		fmt.Fprintf(w, "twice       %s messages came again\n", humanize.Comma(r.Twice))
	}
}
