package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/store"
)

func (a *app) storeExportCommand() *cobra.Command {
	f := &storeFlags{}
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the config/*.json that Apache's broker needs",
		Long: `Write topics, groups, committed offsets, delay progress, filters and pop modes of a data folder into its
config/*.json, so that Apache's broker can be started on the folder. No broker may run on
it; a folder that was not closed in order is recovered first.`,
		Example: `  merlin store export --data /var/lib/merlin`,
		Args:    args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, settings, err := f.load(cmd)
			if err != nil {
				return err
			}
			s := &server{log: a.logger()}
			config, err := broker.Export(dir, broker.Options{Settings: settings, Events: s.brokerEvents()})
			if err != nil {
				return err
			}
			return a.print(map[string]string{"config": config}, func(w io.Writer) {
				fmt.Fprintf(w, "%s: topics.json, subscriptionGroup.json, consumerOffset.json, consumerFilter.json, delayOffset.json, messageRequestMode.json and timercheck are written\n", config)
			})
		},
	}
	f.register(cmd)
	return cmd
}

// repairs are what repair is told to do.
type repairs struct {
	rebuild, acceptLoss, dropIndex, kv bool
	yes                                bool
}

// ofLog tells whether something is to be done that recovers the log.
func (r *repairs) ofLog() bool { return r.rebuild || r.acceptLoss || r.dropIndex }

func (a *app) storeRepairCommand() *cobra.Command {
	f, r := &storeFlags{}, &repairs{}
	cmd := &cobra.Command{
		Use:   "repair --rebuild | --drop-index | --accept-loss | --kv",
		Short: "Repair a data folder, as it is told to",
		Long: `Repair a data folder that no broker runs on. It does what the flags say and nothing else:
first it prints what that will be, and acts only with --yes.

Most damage needs no repair: a torn tail is cut and lost queue entries are made anew at
every start, and a damaged record is stepped over and hides no other. When a start says that
the folder kv is damaged, --kv keeps of topics, groups and offsets what is readable.`,
		Example: `  merlin store repair --data /var/lib/merlin --rebuild
  merlin store repair --data /var/lib/merlin --rebuild --yes`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !r.ofLog() && !r.kv {
				return usagef(cmd, "say what to do: --rebuild, --drop-index, --accept-loss or --kv")
			}
			dir, settings, err := f.load(cmd)
			if err != nil {
				return err
			}
			return a.repairStore(dir, settings, r)
		},
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&r.rebuild, "rebuild", false, "make all consume queues anew from the whole log")
	flags.BoolVar(&r.dropIndex, "drop-index", false, "remove the index of keys and make it anew from the log")
	flags.BoolVar(&r.acceptLoss, "accept-loss", false, "go on without files of the log that are missing")
	flags.BoolVar(&r.kv, "kv", false, "make the small state (topics, groups, offsets) anew from what is readable of it, and keep the old files beside it")
	flags.BoolVar(&r.yes, "yes", false, "do it")
	return cmd
}

func (a *app) repairStore(dir string, settings *broker.Settings, r *repairs) error {
	in, err := store.Inspect(vfs.OS, dir)
	if err != nil {
		return err
	}
	if inUse(dir) {
		return fmt.Errorf("%w: %s; stop the broker that runs on it first", store.ErrLocked, dir)
	}
	fmt.Fprintf(a.err, "In %s, with %d files of the log:\n", dir, len(in.Segments))
	if r.acceptLoss {
		fmt.Fprintln(a.err, "- files of the log that are missing are given up; offsets whose records were in them will be stepped over by consumers")
	}
	if r.rebuild {
		fmt.Fprintln(a.err, "- all consume queues are made anew from the log; topics that were deleted come back as far as the log has them")
	}
	if r.dropIndex {
		fmt.Fprintf(a.err, "- the files in %s are removed and made anew from the log\n", filepath.Join(dir, "index"))
	}
	small := filepath.Join(dir, "kv")
	if r.kv {
		if found, err := kv.Look(small); err != nil {
			return err
		} else if !found {
			return fmt.Errorf("%s has no database that could be repaired; put it back from a backup, or start with --accept-loss to begin without", small)
		}
		fmt.Fprintf(a.err, "- %s is made anew from what is readable of it; it is copied beside itself first\n", small)
	}
	if r.ofLog() {
		fmt.Fprintln(a.err, "The log itself is not changed, except for a torn tail of an unclean stop.")
	}
	if !r.yes {
		return fmt.Errorf("nothing was done yet; add --yes to do it")
	}
	if r.kv {
		if err := a.repairKV(small); err != nil || !r.ofLog() {
			return err
		}
	}
	bar := a.progress("repairing")
	s := &server{log: a.logger()}
	var found store.Recovery
	events := s.brokerEvents().Store
	events.Recovered = func(f store.Recovery) {
		if found.Took == 0 && found.Records == 0 {
			found = f
		}
	}
	o := store.Options{
		SegmentSize: settings.SegmentSize, QueueFileEntries: settings.QueueFileEntries, IndexSlots: settings.IndexSlots, IndexItems: settings.IndexItems,
		NoIndex: settings.NoIndex, AcceptLoss: r.acceptLoss, Rebuild: r.rebuild, Progress: bar.set, Events: events,
		TagCode: settings.DelayLevels.EntryCode,
	}
	defer bar.done()
	if err := openAndClose(dir, o); err != nil {
		return err
	}
	if r.dropIndex { // only now: the folder can be opened
		if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
			return fmt.Errorf("remove the index: %w", err)
		}
		o.Rebuild = false
		if err := openAndClose(dir, o); err != nil {
			return err
		}
	}
	bar.done()
	return a.print(found, func(w io.Writer) {
		fmt.Fprintf(w, "%s: read from position %d to %d, %d records, %d of them put into queues, %d damaged ranges stepped over, %d bytes of a torn tail cut\n",
			dir, found.From, found.End, found.Records, found.Dispatched, found.Damaged, found.Cut)
	})
}

func (a *app) repairKV(dir string) error {
	report, err := kv.Repair(dir, kv.Options{})
	if err != nil {
		return err
	}
	return a.print(map[string]any{"folder": dir, "keys": report.Keys, "copy": report.Copy}, func(w io.Writer) {
		fmt.Fprintf(w, "%s: made anew with %d keys; the files as they were are kept in %s\n", dir, report.Keys, report.Copy)
	})
}

// openAndClose recovers a folder.
func openAndClose(dir string, o store.Options) error {
	st, err := store.Open(dir, o)
	if err != nil {
		return err
	}
	return st.Close()
}
