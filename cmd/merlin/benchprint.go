package main

import (
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/merlinmq/merlin/client/bench"
)

type writer = io.Writer

func printWindow(w writer, win bench.Window, what string) {
	fmt.Fprintf(w, "messages    %s %s in %.2f s\n", humanize.Comma(win.Messages), what, win.Seconds)
	fmt.Fprintf(w, "throughput  %s msg/s, %.1f MB/s\n", humanize.Comma(int64(win.PerSecond)), win.MBPerSec)
}

func printProcesses(w writer, win bench.Window) {
	if s := win.Server; s != nil {
		fmt.Fprintf(w, "server      %.2f µs CPU a message, RssAnon %s (peak %s, %s at the window's start)\n", s.CPUPerMsg,
			humanize.IBytes(uint64(s.RssAnon)), humanize.IBytes(uint64(s.RssAnonPeak)), humanize.IBytes(uint64(s.RssAnonStart)))
	}
	if l := win.Load; l != nil {
		fmt.Fprintf(w, "load        %.2f µs CPU a message\n", l.CPUPerMsg)
	}
}

// micros writes microseconds for people.
func micros(us int64) string {
	d := time.Duration(us) * time.Microsecond
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", us)
	case d < time.Second:
		return fmt.Sprintf("%.2f ms", float64(us)/1e3)
	}
	return fmt.Sprintf("%.2f s", float64(us)/1e6)
}

func printLatency(w writer, name string, l bench.Latency) {
	if l.Count == 0 {
		return
	}
	fmt.Fprintf(w, "%-11s p50 %s, p90 %s, p99 %s, p99.9 %s, p99.99 %s, max %s (%s measured)\n", name,
		micros(l.P50), micros(l.P90), micros(l.P99), micros(l.P999), micros(l.P9999), micros(l.Max), humanize.Comma(l.Count))
}

func printProduce(w writer, r *bench.ProduceResult) {
	o := r.Options
	fmt.Fprintf(w, "load        %s topic %s: %d bytes, %d connections x %d in flight, batch %d, %d queues, %s warm-up\n",
		o.Addr, o.Topic, o.Size, o.Conns, o.InFlight, o.Batch, o.Queues, o.Warmup)
	printWindow(w, r.Window, "acknowledged")
	if o.Rate > 0 {
		printLatency(w, "latency", r.Latency)
		fmt.Fprintf(w, "            counted from when each message was due (%s/s)\n", humanize.Commaf(o.Rate))
		printLatency(w, "service", *r.Service)
	} else {
		printLatency(w, "latency", r.Latency)
	}
	printProcesses(w, r.Window)
	for _, c := range r.Codes {
		fmt.Fprintf(w, "code %-6d %s messages: %s\n", c.Code, humanize.Comma(c.Messages), c.Remark)
	}
	if r.Unsent+r.Unanswered > 0 {
		fmt.Fprintf(w, "behind      %s messages that were due could not be sent in time, %s were never answered\n", humanize.Comma(r.Unsent), humanize.Comma(r.Unanswered))
	}
	if v := r.Verify; v != nil {
		fmt.Fprintf(w, "read back   %s of %s acknowledged in %.1f s: %d missing, %d twice, %d damaged", humanize.Comma(v.Found), humanize.Comma(v.Acked), v.Seconds, v.Missing, v.Twice, v.Damaged)
		if v.Unacked > 0 {
			fmt.Fprintf(w, ", %d not acknowledged but there", v.Unacked)
		}
		if v.Foreign > 0 {
			fmt.Fprintf(w, ", %d of others", v.Foreign)
		}
		fmt.Fprintln(w)
		if v.Late != nil {
			printLatency(w, "lateness", *v.Late)
			fmt.Fprintf(w, "            %d before their time\n", v.Early)
		}
	}
}

func printConsume(w writer, r *bench.ConsumeResult) {
	o := r.Options
	fmt.Fprintf(w, "load        %s topic %s: pulls of %d, %d connections x %d in flight, %s messages there\n",
		o.Addr, o.Topic, o.Pull, o.Conns, o.InFlight, humanize.Comma(r.Available))
	if o.SQL == "" {
		printWindow(w, r.Window, "read")
	} else {
		printWindow(w, r.Window, "scanned")
		fmt.Fprintf(w, "filter      %s: %s of %s scanned in the whole run matched\n", o.SQL, humanize.Comma(r.Matched), humanize.Comma(r.Scanned))
	}
	printLatency(w, "pull", r.Latency)
	printProcesses(w, r.Window)
	if r.Skipped > 0 {
		fmt.Fprintf(w, "gone        %s offsets were deleted before they were read\n", humanize.Comma(r.Skipped))
	}
}

// roundLine is one run of a comparison on one line.
func roundLine(side string, round int, made *bench.ProduceResult, read *bench.ConsumeResult) string {
	what, win, l := "produce", bench.Window{}, bench.Latency{}
	if made != nil {
		win, l = made.Window, made.Latency
	} else {
		what, win, l = "consume", read.Window, read.Latency
	}
	line := fmt.Sprintf("round %d  %-8s %s: %s msg/s, p50 %s, p99 %s", round, side, what, humanize.Comma(int64(win.PerSecond)), micros(l.P50), micros(l.P99))
	if win.Server != nil {
		line += fmt.Sprintf(", %.2f µs CPU, RssAnon %s", win.Server.CPUPerMsg, humanize.IBytes(uint64(win.Server.RssAnonPeak)))
	}
	return line
}

func (a *app) printComparison(w writer, c *bench.Comparison) {
	a.printVersus(w, "produce", c, c.Produce)
	if c.Consume != nil {
		fmt.Fprintln(w)
		a.printVersus(w, "consume", c, *c.Consume)
	}
}

func (a *app) printVersus(w writer, what string, c *bench.Comparison, v bench.Versus) {
	r := &rows{head: []any{what, c.A.Name, c.B.Name, "A/B"}, nums: []int{2, 3, 4}}
	ratio := func(f float64) string {
		if f == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f", f)
	}
	r.add("msg/s (median)", humanize.Comma(int64(v.A.PerSecond)), humanize.Comma(int64(v.B.PerSecond)), fmt.Sprintf("%.2f (%.2f to %.2f)", v.Ratio, v.RatioLow, v.RatioHigh))
	r.add("msg/s (range)", fmt.Sprintf("%s to %s", humanize.Comma(int64(v.A.Lowest)), humanize.Comma(int64(v.A.Highest))),
		fmt.Sprintf("%s to %s", humanize.Comma(int64(v.B.Lowest)), humanize.Comma(int64(v.B.Highest))), "")
	r.add("p50", micros(int64(v.A.P50)), micros(int64(v.B.P50)), "")
	r.add("p99", micros(int64(v.A.P99)), micros(int64(v.B.P99)), ratio(v.RatioP99))
	r.add("p99.9", micros(int64(v.A.P999)), micros(int64(v.B.P999)), "")
	if v.RatioCPU > 0 {
		r.add("CPU a message, µs", fmt.Sprintf("%.2f", v.A.CPUPerMsg), fmt.Sprintf("%.2f", v.B.CPUPerMsg), ratio(v.RatioCPU))
		r.add("RssAnon peak", humanize.IBytes(uint64(v.A.RssAnonPeak)), humanize.IBytes(uint64(v.B.RssAnonPeak)), ratio(v.RatioMemory))
	}
	a.table(w, r)
}
