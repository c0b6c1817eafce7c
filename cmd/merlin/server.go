package main

import (
	"github.com/spf13/cobra"
)

// serveFlags are the flags of server, nameserver and broker.
type serveFlags struct {
	config      string
	sets        []string
	data        string
	namesrvAddr string // "" runs no name server
	brokerAddr  string // "" runs no broker
	httpAddr    string
	withBroker  bool
	acceptLoss  bool
}

func (f *serveFlags) register(cmd *cobra.Command, withNameServer, withBroker bool) {
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "read an Apache broker.conf (old key spellings are understood)")
	flags.StringArrayVar(&f.sets, "set", nil, "set a broker.conf key, as key=value; may be repeated")
	flags.StringVar(&f.httpAddr, "http-listen", ":8080", `address of /healthz, /readyz and /metrics; "" for none`)
	if withNameServer {
		flags.StringVar(&f.namesrvAddr, "namesrv-listen", ":9876", "address of the name server; port 0 picks a free one")
	}
	f.withBroker = withBroker
	flags.StringVar(&f.data, "data", "./data", "data folder")
	if withBroker {
		flags.BoolVar(&f.acceptLoss, "accept-loss", false, "start although files of the commit log are missing, and go on with what is left")
		flags.StringVar(&f.brokerAddr, "broker-listen", ":10911", "address of the broker; port 0 picks a free one")
	}
}

func (a *app) serverCommand() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a name server and a broker in one process",
		Long: `Run a name server and a broker in one process. No file has to be edited: the name server
listens on :9876, the broker on :10911, and data is kept in ./data.

--namesrv names further name servers to register at. SIGTERM or Ctrl-C ends it cleanly.

` + jsonStart,
		Example: `  merlin server
  merlin server --data /var/lib/merlin --set flushDiskType=SYNC_FLUSH
  merlin server --config broker.conf --data /home/rocketmq/store`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd, f) },
	}
	f.register(cmd, true, true)
	return cmd
}

func (a *app) nameServerCommand() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "nameserver",
		Short: "Run a name server alone",
		Long: `Run a name server alone. Name servers know nothing of each other: run as many as you like,
and give all their addresses to brokers and clients. What brokers tell is kept in memory; KV
settings that tools make are kept in the data folder, as namesrv/kvConfig.json. Give each of
several name servers on one machine a --data of its own, if you make such settings.

` + jsonStart,
		Example: `  merlin nameserver
  merlin nameserver --namesrv-listen 10.0.0.1:9876 --http-listen :8081 --data /var/lib/merlin-names`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd, f) },
	}
	f.register(cmd, true, false)
	return cmd
}

func (a *app) brokerCommand() *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "broker",
		Short: "Run a broker alone",
		Long: `Run a broker alone. It registers at the name servers that --namesrv lists.

` + jsonStart,
		Example: `  merlin broker --namesrv '10.0.0.1:9876;10.0.0.2:9876'
  merlin broker --config broker.conf --data /var/lib/merlin`,
		Args: args(cobra.NoArgs, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd, f) },
	}
	f.register(cmd, false, true)
	return cmd
}
