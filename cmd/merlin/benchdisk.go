package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client/bench"
	"github.com/merlinmq/merlin/internal/vfs"
)

// benchDisk times what a lone producer with sync flush waits for.
func (a *app) benchDisk() *cobra.Command {
	var (
		dir      string
		size     int
		duration time.Duration
		pause    time.Duration
	)
	cmd := &cobra.Command{
		Use:   "disk",
		Short: "How long a bare write and fdatasync take: the floor of sync flush",
		Long: `Writes records one behind the other into a file with room reserved and fdatasyncs each,
as a broker with flushDiskType=SYNC_FLUSH does for a lone producer. Compare it with
'merlin bench produce --sync-one'. The file is removed at the end.`,
		Example: `  merlin bench disk --dir ./data --size 1100
  merlin bench disk --dir ./data --pause 100us`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if size < 1 || size > diskFile {
				return errors.New("bench: --size is the bytes of a write: 1 to 67108864")
			}
			path := filepath.Join(dir, "merlin-bench-disk.tmp")
			f, err := vfs.OS.Create(path)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
			if err := f.Allocate(0, diskFile); err != nil {
				return err
			}
			record, at := make([]byte, size), int64(0)
			latency, err := bench.Repeat(cmd.Context(), duration, pause, func() error {
				if at+int64(size) > diskFile {
					at = 0
				}
				if _, err := f.WriteAt(record, at); err != nil {
					return err
				}
				at += int64(size)
				return f.Sync()
			})
			if err != nil {
				return err
			}
			return a.print(latency, func(w writer) { printLatency(w, "fdatasync", latency) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", ".", "folder on the disk to measure")
	f.IntVar(&size, "size", 1100, "bytes of a write")
	f.DurationVar(&pause, "pause", 0, "rest between two writes: a disk that has rested may take longer, and a lone producer lets it rest")
	f.DurationVarP(&duration, "duration", "d", 5*time.Second, "measured time")
	return cmd
}

// diskFile is the length of the file that is written over.
const diskFile = 64 << 20
