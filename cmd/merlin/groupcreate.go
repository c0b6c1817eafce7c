package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) groupCreate() *cobra.Command {
	return &cobra.Command{
		Use:   "create GROUP...",
		Short: "Create groups at every broker that does not know them",
		Long: `Creates consumer groups with the usual settings (16 retries, one retry queue) at every
broker that is a master and does not know them. It is needed only where brokers run with
autoCreateSubscriptionGroup=false; elsewhere a group is made when its first member connects.`,
		Example: `  merlin group create billing
  merlin group create billing && merlin group set billing retryMaxTimes=5`,
		Args: args(cobra.MinimumNArgs(1), "at least one GROUP"),
		RunE: func(cmd *cobra.Command, groups []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				type created struct {
					Group   string   `json:"group"`
					Brokers []string `json:"brokers"` // that did not know it
				}
				var all []created
				for _, g := range groups {
					brokers, err := admin.CreateGroup(ctx, g)
					if err != nil {
						return err
					}
					all = append(all, created{g, brokers})
				}
				return a.print(all, func(w io.Writer) {
					for _, c := range all {
						if len(c.Brokers) == 0 {
							fmt.Fprintf(w, "group %s is there already\n", c.Group)
							continue
						}
						fmt.Fprintf(w, "group %s is created at %s\n", c.Group, strings.Join(c.Brokers, ", "))
					}
				})
			})
		},
	}
}
