package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/internal/config"
	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// storeFlags say which folder a command of the store looks at, and what it was
// written with.
type storeFlags struct {
	data   string
	config string
	sets   []string
}

func (f *storeFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.data, "data", "./data", "data folder of a Merlin or Apache broker")
	flags.StringVar(&f.config, "config", "", "the broker.conf that the folder was written with")
	flags.StringArrayVar(&f.sets, "set", nil, "a broker.conf key, as key=value: file sizes that are not the default")
}

// load returns the folder and the broker's settings.
func (f *storeFlags) load(cmd *cobra.Command) (string, *broker.Settings, error) {
	c, _, err := config.Load(config.Broker, f.config, f.sets)
	if err != nil {
		return "", nil, err
	}
	dir := f.data
	if !cmd.Flags().Changed("data") && c.Given("storePathRootDir") {
		dir = c.Text("storePathRootDir")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "commitlog")); err != nil {
		return "", nil, fmt.Errorf("%s is no data folder: %w; name it with --data", dir, err)
	}
	s, err := brokerSettings(c)
	return dir, s, err
}

// logger writes what happens to standard error.
func (a *app) logger() *slog.Logger { return slog.New(slog.NewTextHandler(a.err, nil)) }

func (a *app) storeCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "store",
		Short: "Look at a data folder: verify, dump, status, export, repair",
		Long: `Commands for a data folder on this machine, written by Merlin or by Apache's broker.
verify, export and repair want that no broker runs on it; dump and status do not care.
Only export and repair write, and repair only what it is told to.`,
	}, a.storeStatusCommand(), a.storeVerifyCommand(), a.storeDumpCommand(), a.storeExportCommand(), a.storeRepairCommand())
}

// storeSegment is one file of the log, in the answer of status.
type storeSegment struct {
	File  string     `json:"file"`
	Bytes int64      `json:"bytes"`
	First *time.Time `json:"firstStored,omitempty"`
	Last  time.Time  `json:"changed"`
}

// storeStatus is the answer of status.
type storeStatus struct {
	Folder      string           `json:"folder"`
	State       string           `json:"state"` // running, closed, unclean
	Bytes       int64            `json:"logBytes"`
	Min         message.Position `json:"min"`
	Max         message.Position `json:"max"`
	Durable     message.Position `json:"checkpoint"`
	DurableTime *time.Time       `json:"checkpointTime,omitempty"`
	DiskTotal   int64            `json:"diskTotal"`
	DiskFree    int64            `json:"diskFree"`
	Growth      float64          `json:"bytesPerSecond"`
	TimeToFull  *float64         `json:"secondsToFull,omitempty"`
	Budget      int64            `json:"budget,omitempty"` // storeMaxBytes
	Segments    []storeSegment   `json:"segments"`
}

func (a *app) storeStatusCommand() *cobra.Command {
	f := &storeFlags{}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show size, segments, checkpoint and how long the disk lasts",
		Long: `Show what a data folder holds: the segments of the log with their times, its first and
last position, how far the checkpoint is, and after how long the disk is full when the log
grows as it did in the last day. It only reads; a broker may run on the folder.`,
		Example: `  merlin store status --data /var/lib/merlin
  merlin store status --data /var/lib/merlin --json`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, settings, err := f.load(cmd)
			if err != nil {
				return err
			}
			st, err := lookAtStore(dir, settings)
			if err != nil {
				return err
			}
			return a.print(st, func(w io.Writer) { a.storeStatus(w, st) })
		},
	}
	f.register(cmd)
	return cmd
}

func lookAtStore(dir string, settings *broker.Settings) (*storeStatus, error) {
	in, err := store.Inspect(vfs.OS, dir)
	if err != nil {
		return nil, err
	}
	st := &storeStatus{Folder: dir, State: "closed", Durable: in.Checkpoint.Upto, Budget: settings.StoreMaxBytes.Load(), Segments: []storeSegment{}}
	if in.Abort {
		st.State = "unclean"
		if inUse(dir) {
			st.State = "running"
		}
	}
	if in.Checkpoint.Time > 0 {
		t := time.UnixMilli(in.Checkpoint.Time)
		st.DurableTime = &t
	}
	for _, seg := range in.Segments {
		row := storeSegment{File: seg.File, Bytes: seg.Size, Last: seg.ModTime}
		if seg.FirstStoreTime > 0 {
			t := time.UnixMilli(seg.FirstStoreTime)
			row.First = &t
		}
		st.Segments = append(st.Segments, row)
		st.Bytes += seg.Size
	}
	if n := len(in.Segments); n > 0 {
		st.Min = in.Segments[0].Base
		none := func(message.Position, message.View) error { return nil }
		if st.Max, err = commitlog.Scan(vfs.OS, filepath.Join(dir, "commitlog"), in.Segments[n-1].Base, none, nil); err != nil {
			return nil, err
		}
	}
	logDir := filepath.Join(dir, "commitlog") // which may be a link to another disk
	if st.DiskTotal, st.DiskFree, err = vfs.OS.Usage(logDir); err != nil {
		return nil, fmt.Errorf("ask how full the disk of %s is: %w", logDir, err)
	}
	st.Growth = store.Growth(in.Segments, st.Max, time.Now())
	if left, known := store.TimeToFull(st.DiskFree, st.Growth); known {
		seconds := left.Seconds()
		st.TimeToFull = &seconds
	}
	return st, nil
}

// inUse tells whether a broker holds the folder.
func inUse(dir string) bool {
	name := filepath.Join(dir, "lock")
	if _, err := os.Stat(name); err != nil {
		return false
	}
	lock, err := vfs.OS.Lock(name)
	if err != nil {
		return errors.Is(err, vfs.ErrLocked)
	}
	_ = lock.Close() // it was only to see whether it can be had
	return false
}

func (a *app) storeStatus(w io.Writer, st *storeStatus) {
	full := "not in sight"
	if st.TimeToFull != nil {
		full = "in " + span(*st.TimeToFull) + fmt.Sprintf(" at %s a second", byteSize(int64(st.Growth)))
	}
	fmt.Fprintf(w, "folder      %s (%s)\n", st.Folder, st.State)
	fmt.Fprintf(w, "log         %s in %d files, positions %d to %d\n", byteSize(st.Bytes), len(st.Segments), st.Min, st.Max)
	fmt.Fprintf(w, "checkpoint  position %d, %s\n", st.Durable, when(st.DurableTime))
	fmt.Fprintf(w, "disk        %s free of %s\n", byteSize(st.DiskFree), byteSize(st.DiskTotal))
	if st.Budget > 0 {
		fmt.Fprintf(w, "budget      %s\n", byteSize(st.Budget))
	}
	fmt.Fprintf(w, "full        %s\n", full)
	r := &rows{head: []any{"FILE", "BYTES", "FIRST STORED", "CHANGED"}, nums: []int{2}}
	for _, seg := range st.Segments {
		r.add(filepath.Base(seg.File), seg.Bytes, when(seg.First), when(&seg.Last))
	}
	a.table(w, r)
}

// byteSize writes bytes with a binary unit.
func byteSize(n int64) string {
	v, unit := float64(n), ""
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, u
	}
	if unit == "" {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

func (a *app) storeVerifyCommand() *cobra.Command {
	f := &storeFlags{}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read a whole data folder and list what is damaged",
		Long: `Read every record and queue entry, and the header of every index file, of a data folder that
no broker runs on, check sizes, magics and CRCs and that queues and log agree, and list each
damaged place with its file and offset. Keys in the index are not compared with the log: the
index only finds messages by key, and can be made anew. Nothing is changed. It exits with 1 when something is damaged that the
next start does not put right by itself.`,
		Example: `  merlin store verify --data /var/lib/merlin
  merlin store verify --data /home/rocketmq/store --set maxHashSlotNum=1000 --json`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, settings, err := f.load(cmd)
			if err != nil {
				return err
			}
			return a.verifyStore(dir, settings)
		},
	}
	f.register(cmd)
	return cmd
}

// verified is the answer of verify.
type verified struct {
	Folder string `json:"folder"`
	store.Verified
	Keys int `json:"keys"` // of the small state
}

func (a *app) verifyStore(dir string, settings *broker.Settings) error {
	bar := a.progress("verifying")
	found, err := store.Verify(dir, store.VerifyOptions{
		QueueFileEntries: settings.QueueFileEntries, IndexSlots: settings.IndexSlots, IndexItems: settings.IndexItems, Progress: bar.set,
	})
	bar.done()
	if err != nil {
		return err
	}
	v := &verified{Folder: dir, Verified: found}
	if v.Places == nil {
		v.Places = []store.Place{}
	}
	if err := broker.CheckState(vfs.OS, dir); errors.Is(err, store.ErrMissing) {
		v.Places = append(v.Places, store.Place{File: filepath.Join(dir, "kv"), Text: err.Error()})
		v.Damaged++
	} else if err != nil {
		return err
	}
	if v.Keys, err = kv.Verify(filepath.Join(dir, "kv")); err != nil {
		var corrupt *kv.CorruptError
		if !errors.As(err, &corrupt) {
			return err
		}
		v.Places = append(v.Places, store.Place{File: corrupt.Dir, Text: corrupt.Error()})
		v.Damaged++
	}
	if err := a.print(v, func(w io.Writer) { printVerified(w, v) }); err != nil {
		return err
	}
	if v.Damaged > 0 {
		return fmt.Errorf("%d places in %s are damaged", v.Damaged, dir)
	}
	return nil
}

func printVerified(w io.Writer, v *verified) {
	for _, p := range v.Places {
		note := ""
		if p.Heals {
			note = " (the next start puts it right)"
		}
		fmt.Fprintf(w, "%s at %d: %s%s\n", p.File, p.Offset, p.Text, note)
	}
	if v.More > 0 {
		fmt.Fprintf(w, "and %d places more\n", v.More)
	}
	how := "closed in order"
	if v.Unclean {
		how = "not closed in order"
	}
	fmt.Fprintf(w, "%s: %d records between positions %d and %d, %d queues with %d entries that lead to them, %d keys of small state, %s, %d places damaged\n",
		v.Folder, v.Records, v.Begin, v.End, v.Queues, v.Entries, v.Keys, how, v.Damaged)
}
