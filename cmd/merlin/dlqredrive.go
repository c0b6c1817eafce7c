package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

// redriveFlags are the flags of merlin dlq redrive.
type redriveFlags struct {
	deadFilterFlags
	spec                         client.RedriveSpec
	results                      string
	dryRun, detach, list, cancel bool
}

func (a *app) dlqRedrive() *cobra.Command {
	var f redriveFlags
	cmd := &cobra.Command{
		Use:   "redrive GROUP | --id ID | --list",
		Short: "Send dead letters again",
		Long: `Sends the dead letters of a group that there are now, or those that the flags choose, to
the topics that they came from, to the group's retry topic (--to retry: no other group
gets them), or to another topic (--topic). The broker does the work: it goes on when this
command ends and when the broker is restarted, and sends no message twice and leaves none
out for one id. The dead letters stay where they are; see 'merlin dlq purge'.

With --id alone it shows a re-drive until its end, and lets one go on that was stopped or
cancelled. With --json it prints what became of each dead letter, one object a line, and
at last the re-drive.`,
		Example: `  merlin dlq redrive payments --dry-run
  merlin dlq redrive payments --rate 500 --since 2h --results done.jsonl
  merlin dlq redrive payments --to retry --key order-17
  merlin dlq redrive --id 20261121-130000-a1b2
  merlin dlq redrive --id 20261121-130000-a1b2 --cancel
  merlin dlq redrive --list`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := f.check(cmd, given); err != nil {
				return err
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error { return a.redrive(ctx, cmd, admin, &f) })
		},
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.spec.To, "to", "original", "send to: original (topic), or retry (topic)")
	flags.StringVarP(&f.spec.Topic, "topic", "t", "", "send all to this topic")
	flags.IntVar(&f.spec.Rate, "rate", 0, "at most so many messages a second at each broker (default no bound)")
	flags.StringVar(&f.spec.ID, "id", "", "the re-drive's id (default a new one)")
	flags.StringVar(&f.results, "results", "", "write what became of each dead letter to this file, as JSON lines")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only say what would be sent where")
	flags.BoolVar(&f.detach, "detach", false, "do not wait for the end")
	flags.BoolVar(&f.list, "list", false, "list re-drives")
	flags.BoolVar(&f.cancel, "cancel", false, "stop the re-drive with --id")
	return cmd
}

func (f *redriveFlags) check(cmd *cobra.Command, given []string) error {
	if err := f.read(cmd); err != nil {
		return err
	}
	f.spec.Filter = f.DeadFilter
	if len(given) == 1 {
		f.spec.Group = given[0]
	}
	switch {
	case f.spec.Group == "" && f.spec.ID == "" && !f.list:
		return usagef(cmd, "%s wants a GROUP, or --id, or --list", cmd.CommandPath())
	case f.cancel && (f.spec.ID == "" || f.spec.Group != ""):
		return usagef(cmd, "--cancel wants --id, and no GROUP")
	case f.list && f.spec.Group != "":
		return usagef(cmd, "--list wants no GROUP")
	case f.dryRun && f.spec.Group == "":
		return usagef(cmd, "--dry-run wants a GROUP")
	case f.spec.Rate < 0:
		return usagef(cmd, "--rate %d: want 0 or more", f.spec.Rate)
	case f.spec.To != "original" && f.spec.To != "retry":
		return usagef(cmd, "--to %s: want original or retry; another topic with --topic", f.spec.To)
	case f.spec.Topic != "" && cmd.Flags().Changed("to"):
		return usagef(cmd, "give either --to or --topic")
	}
	if f.spec.Group == "" && !f.list && !f.cancel {
		for _, name := range []string{"since", "until", "origin", "key", "tag", "property", "message", "reason", "to", "topic"} {
			if cmd.Flags().Changed(name) {
				return usagef(cmd, "--%s is for a new re-drive, of a GROUP; what --id goes on with is settled", name)
			}
		}
	}
	if f.spec.Topic != "" {
		f.spec.To = "topic"
	}
	return nil
}

func (a *app) redrive(ctx context.Context, cmd *cobra.Command, admin *client.Admin, f *redriveFlags) error {
	var jobs []client.Redrive
	var err error
	switch {
	case f.list:
		jobs, err = admin.Redrives(ctx, f.spec.ID)
	case f.cancel:
		jobs, err = admin.ControlRedrive(ctx, f.spec.ID, "cancel", -1)
	case f.dryRun:
		return a.planRedrive(ctx, admin, f.spec)
	case f.spec.Group == "":
		rate := -1
		if cmd.Flags().Changed("rate") {
			rate = f.spec.Rate
		}
		jobs, err = admin.ControlRedrive(ctx, f.spec.ID, "resume", rate)
	default:
		if f.spec.ID == "" {
			f.spec.ID = fmt.Sprintf("%s-%04x", time.Now().UTC().Format("20060102-150405"), rand.IntN(1<<16))
		}
		fmt.Fprintf(a.err, "re-drive %s\n", f.spec.ID)
		jobs, err = admin.Redrive(ctx, f.spec)
	}
	if err != nil {
		return err
	}
	if f.list || f.cancel || f.detach {
		return a.print(map[string]any{"redrives": jobs}, func(w io.Writer) { a.redriveRows(w, jobs) })
	}
	if jobs, err = a.followRedrive(ctx, admin, f.spec.ID, jobs); err != nil {
		return err
	}
	if err := a.redriveResults(ctx, admin, f); err != nil {
		return err
	}
	if a.json {
		err = a.printLine(map[string]any{"redrives": jobs})
	} else {
		a.redriveRows(a.out, jobs)
	}
	return errors.Join(err, redriveOutcome(jobs))
}

// redriveOutcome is an error unless all was sent.
func redriveOutcome(jobs []client.Redrive) error {
	var errs []error
	for _, j := range jobs {
		switch {
		case j.Error != "":
			errs = append(errs, fmt.Errorf("broker %s: the re-drive %s is %s: %s; then go on with: merlin dlq redrive --id %s", j.Broker, j.ID, j.State, j.Error, j.ID))
		case j.State != "done":
			errs = append(errs, fmt.Errorf("broker %s: the re-drive %s is %s; go on with: merlin dlq redrive --id %s", j.Broker, j.ID, j.State, j.ID))
		case j.Failed+j.Gone > 0:
			errs = append(errs, fmt.Errorf("broker %s: %d dead letters could not be sent and stay where they are, %d are gone; --results tells which and why", j.Broker, j.Failed, j.Gone))
		}
	}
	return errors.Join(errs...)
}

// How a re-drive is watched.
const (
	redriveLook   = 300 * time.Millisecond
	redriveAbsent = time.Minute // a broker may be away so long, to be restarted
)

// followRedrive shows a re-drive until it is over at all brokers.
func (a *app) followRedrive(ctx context.Context, admin *client.Admin, id string, jobs []client.Redrive) ([]client.Redrive, error) {
	bar := a.progress("re-driving")
	defer bar.done()
	seen, waiting := time.Now(), ""
	for {
		over, done, total := true, int64(0), int64(0)
		for _, j := range jobs {
			over = over && j.Over()
			done, total = done+j.Next-j.First, total+j.End-j.First
			if j.Waiting != "" && j.Waiting != waiting {
				waiting = j.Waiting
				fmt.Fprintf(a.err, "broker %s waits: %s\n", j.Broker, waiting)
			}
		}
		if over {
			return jobs, nil
		}
		bar.set(done, total)
		select {
		case <-ctx.Done():
			return jobs, fmt.Errorf("the brokers go on with the re-drive; look at it with: merlin dlq redrive --id %s, stop it with --cancel: %w", id, ctx.Err())
		case <-time.After(redriveLook):
		}
		now, err := admin.Redrives(ctx, id)
		switch {
		case err == nil && len(now) >= len(jobs):
			jobs, seen = now, time.Now()
		case ctx.Err() == nil && time.Since(seen) > redriveAbsent:
			if err == nil {
				err = errors.New("a broker that takes part is away")
			}
			return jobs, fmt.Errorf("%w; the broker goes on when it is back, look with: merlin dlq redrive --id %s", err, id)
		}
	}
}

// redriveResults writes what became of each dead letter, if asked.
func (a *app) redriveResults(ctx context.Context, admin *client.Admin, f *redriveFlags) error {
	if f.results == "" && !a.json {
		return nil
	}
	if f.results == "" {
		return admin.EachRedriveResult(ctx, f.spec.ID, func(r *client.RedriveResult) error { return a.printLine(r) })
	}
	return a.toFile(f.results, func(w io.Writer) error {
		return admin.EachRedriveResult(ctx, f.spec.ID, func(r *client.RedriveResult) error { return writeLine(w, r) })
	})
}

// writeLine writes one JSON object.
func writeLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (a *app) redriveRows(w io.Writer, jobs []client.Redrive) {
	r := &rows{head: []any{"ID", "GROUP", "TO", "STATE", "DONE", "SENT", "SKIPPED", "FAILED", "GONE", "BEGUN", "LAST", "BROKER"}, nums: []int{5, 6, 7, 8, 9}}
	for _, j := range jobs {
		to := j.To
		if j.Topic != "" {
			to = j.Topic
		}
		done := "100 %"
		if j.End > j.First && j.State != "done" {
			done = fmt.Sprintf("%d %%", 100*min(j.Next-j.First, j.End-j.First)/(j.End-j.First))
		}
		r.add(j.ID, j.Group, to, j.State, done, j.Sent, j.Skipped, j.Failed, j.Gone, when(&j.Created.Time), when(&j.Updated.Time), j.Broker)
	}
	a.table(w, r)
}

func (a *app) planRedrive(ctx context.Context, admin *client.Admin, spec client.RedriveSpec) error {
	bar := a.progress("looking")
	plan, err := admin.PlanRedrive(ctx, spec, func(n int64) { bar.set(n, 0) })
	bar.done()
	if err != nil {
		return err
	}
	return a.print(plan, func(w io.Writer) {
		fmt.Fprintf(w, "%d of %d dead letters would be sent\n", plan.Matched-sum(plan.Problems), plan.Scanned)
		for _, topic := range slices.Sorted(maps.Keys(plan.Topics)) {
			fmt.Fprintf(w, "%d\tto %s\n", plan.Topics[topic], topic)
		}
		for _, text := range slices.Sorted(maps.Keys(plan.Problems)) {
			fmt.Fprintf(w, "%d\tnot: %s\n", plan.Problems[text], text)
		}
	})
}

func sum(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}
