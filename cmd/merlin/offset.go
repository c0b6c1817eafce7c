package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
	"github.com/merlinmq/merlin/message"
)

func (a *app) offsetCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "offset",
		Short: "Move consumer groups: reset, skip what has piled up, clone from another group",
		Example: `  merlin offset reset billing orders earliest --dry-run
  merlin offset skip billing orders
  merlin offset clone billing billing-v2 orders`,
	}, a.offsetReset(), a.offsetSkip(), a.offsetClone())
}

func (a *app) offsetReset() *cobra.Command {
	var dry bool
	queue := -1
	cmd := &cobra.Command{
		Use:   "reset GROUP TOPIC WHERE",
		Short: "Move a group to earliest, latest, a time, a duration back from now, or an offset",
		Long: `Moves a group in every queue of a topic. Members that are connected are told and
go on there; without members the committed offsets are set.

WHERE is earliest, latest, a time in RFC 3339, or a duration back from now; with
--queue, which moves that queue alone, also an offset.`,
		Example: `  merlin offset reset billing orders 2026-11-21T13:00:00Z
  merlin offset reset billing orders 15m --dry-run --json
  merlin offset reset billing orders 4711 --queue 3`,
		Args: args(cobra.ExactArgs(3), "GROUP, TOPIC and WHERE"),
		RunE: func(cmd *cobra.Command, given []string) error {
			to, err := resetTarget(given[2], queue)
			if err != nil {
				return usagef(cmd, "%s", err)
			}
			return a.moveOffsets(cmd, given[0], given[1], to, dry)
		},
	}
	dryRun(cmd, &dry)
	cmd.Flags().IntVar(&queue, "queue", -1, "move this queue alone, at each broker that has it")
	return cmd
}

// resetTarget reads where to move a group, in one queue if that is not negative.
func resetTarget(text string, queue int) (client.Where, error) {
	if offset, err := strconv.ParseInt(text, 10, 64); err == nil {
		if queue < 0 || offset < 0 {
			return client.Where{}, fmt.Errorf("%s: an offset belongs to one queue; name it with --queue", text)
		}
		return client.AtOffset(int32(queue), message.Offset(offset)), nil
	}
	to, err := client.ParseWhere(text, time.Now())
	if err == nil && queue >= 0 {
		to = to.InQueue(int32(queue))
	}
	return to, err
}

func (a *app) offsetSkip() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:     "skip GROUP TOPIC",
		Short:   "Skip what has piled up: move a group behind the newest messages",
		Example: `  merlin offset skip billing orders --dry-run`,
		Args:    args(cobra.ExactArgs(2), "GROUP and TOPIC"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.moveOffsets(cmd, given[0], given[1], client.Latest, dry)
		},
	}
	dryRun(cmd, &dry)
	return cmd
}

func (a *app) offsetClone() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "clone FROM TO TOPIC",
		Short: "Give one group the offsets of another",
		Long: `Gives the group TO the offsets that the group FROM has committed in a topic.
Stop the members of TO before: they would overwrite the offsets with their own.`,
		Example: `  merlin offset clone billing billing-v2 orders --dry-run`,
		Args:    args(cobra.ExactArgs(3), "FROM, TO and TOPIC"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				done, err := admin.CloneOffsets(ctx, given[0], given[1], given[2], dry)
				if err != nil {
					return err
				}
				return a.printMoves(given[1], given[2], done, dry)
			})
		},
	}
	dryRun(cmd, &dry)
	return cmd
}

func dryRun(cmd *cobra.Command, dry *bool) {
	cmd.Flags().BoolVar(dry, "dry-run", false, "say what would be done, and do nothing")
}

func (a *app) moveOffsets(cmd *cobra.Command, group, topic string, to client.Where, dry bool) error {
	return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
		move := admin.ResetOffsets
		if dry {
			move = admin.PlanReset
		}
		done, err := move(ctx, group, topic, to)
		if err != nil {
			return err
		}
		return a.printMoves(group, topic, done, dry)
	})
}

func (a *app) printMoves(group, topic string, done []client.QueueReset, dry bool) error {
	return a.print(map[string]any{"group": group, "topic": topic, "dry_run": dry, "queues": done}, func(w io.Writer) {
		r := &rows{head: []any{"BROKER", "QUEUE", "FROM", "TO", "MEMBERS"}, nums: []int{2, 3, 4}}
		for _, q := range done {
			from, members := fmt.Sprint(q.From), "none told"
			if q.From < 0 {
				from = "-"
			}
			if q.Online {
				members = "told, where connected"
			}
			r.add(q.Broker, q.Queue, from, q.To, members)
		}
		a.table(w, r)
		if dry {
			fmt.Fprintln(w, "nothing was changed (--dry-run)")
		}
	})
}
