package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of the CPU times in /proc: Linux shows them in 1/100 s on
// every architecture that Go runs on.
const tick = 10 * time.Millisecond

// usage is what a process has taken so far.
type usage struct {
	cpu     time.Duration // user and system time of all its threads
	rssAnon int64         // bytes
}

// processUsage reads /proc/PID. It needs Linux and a process of one's own.
func processUsage(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("bench: cannot read the CPU time of process %d (it needs Linux, and the server on this machine): %w", pid, err)
	}
	cpu, err := parseStat(stat)
	if err != nil {
		return usage{}, fmt.Errorf("bench: /proc/%d/stat: %w", pid, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, fmt.Errorf("bench: cannot read the memory of process %d: %w", pid, err)
	}
	rss, err := parseStatus(status)
	if err != nil {
		return usage{}, fmt.Errorf("bench: /proc/%d/status: %w", pid, err)
	}
	return usage{cpu: cpu, rssAnon: rss}, nil
}

// parseStat takes utime and stime, the fields 14 and 15. The name in field 2
// may hold anything, parentheses and blanks too, so it counts from the last
// closing one.
func parseStat(stat []byte) (time.Duration, error) {
	i := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[i+1:])
	if i < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("unexpected text %q", clip(stat))
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("user time: %w", err)
	}
	system, err := strconv.ParseInt(string(fields[12]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("system time: %w", err)
	}
	return time.Duration(user+system) * tick, nil
}

// parseStatus takes RssAnon: memory that is the process's own and not a
// mapped file's.
func parseStatus(status []byte) (int64, error) {
	for line := range bytes.Lines(status) {
		rest, found := bytes.CutPrefix(line, []byte("RssAnon:"))
		if !found {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			break
		}
		kb, err := strconv.ParseInt(string(fields[0]), 10, 64)
		return kb << 10, err
	}
	return 0, fmt.Errorf("no RssAnon in it")
}
