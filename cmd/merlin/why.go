package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func (a *app) whyCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "why",
		Short:   "Ask why something is as it is",
		Example: "  merlin why topic orders\n  merlin why queue orders/3 --group billing\n  merlin why message 7F0000010B2C000000000A1B2C3D0001",
	}, a.whyMessage(), a.whyQueue(), &cobra.Command{
		Use:     "topic TOPIC",
		Short:   "Why a topic has a route or none: which brokers have it, which had it and are gone",
		Example: `  merlin why topic orders`,
		Args:    args(cobra.ExactArgs(1), "one TOPIC"),
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.withAdmin(cmd, func(ctx context.Context, admin *client.Admin) error {
				all, err := admin.WhyTopic(ctx, given[0])
				if err != nil {
					return err
				}
				return a.print(map[string]any{"topic": given[0], "name_servers": all}, func(w io.Writer) {
					for _, why := range all {
						if why.Cause == "" {
							fmt.Fprintf(w, "%s: %s has a route; brokers: %s\n", why.NameServer, why.Topic, strings.Join(why.Brokers, ", "))
						} else {
							fmt.Fprintf(w, "%s: %s has no route. %s\n", why.NameServer, why.Topic, why.Cause)
						}
						for _, gone := range why.Gone {
							fmt.Fprintf(w, "  %s\n", gone)
						}
					}
				})
			})
		},
	})
}
