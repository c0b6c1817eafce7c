package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) groupSet() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "set GROUP KEY=VALUE...",
		Short: "Set attributes and retries of a group at every broker; KEY= removes an attribute",
		Long: `Sets attributes of a consumer group at every broker that is a master:

  initialPosition           where the group begins in a queue of which it has
                            committed nothing: latest, earliest, a time in
                            RFC 3339, or ms since 1970. It goes before what the
                            clients ask for.
  merlin.subscriptionGuard  what becomes of a member that subscribes to other
                            things than the rest: warn (default), or reject.
` + client.GroupFields,
		Example: `  merlin group set billing initialPosition=latest
  merlin group set billing merlin.subscriptionGuard=reject --dry-run
  merlin group set billing retryPolicy=10s,30s,5m retryMaxTimes=5`,
		Args: args(cobra.MinimumNArgs(2), "a GROUP and at least one KEY=VALUE"),
		RunE: func(cmd *cobra.Command, given []string) error {
			changes := map[string]string{}
			for _, pair := range given[1:] {
				key, value, found := strings.Cut(pair, "=")
				if !found || key == "" {
					return usagef(cmd, "%q: want KEY=VALUE, or KEY= to remove it", pair)
				}
				changes[key] = value
			}
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				set, err := admin.SetGroupAttributes(ctx, given[0], changes, dry)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"group": given[0], "dry_run": dry, "brokers": set}, func(w io.Writer) {
					verb := "set"
					if dry {
						verb = "would be set"
					}
					fmt.Fprintf(w, "%s: %s %s at %s\n", given[0], strings.Join(given[1:], " "), verb, strings.Join(set, ", "))
				})
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}
