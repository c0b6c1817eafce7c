package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/client"
	"github.com/merlinmq/merlin/internal/config"
	"github.com/merlinmq/merlin/nameserver"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/schedule"
)

// settings are what flags and broker.conf ask for, in the shapes of the parts.
type settings struct {
	lines           []config.Line
	config          *config.Config
	dir             string
	httpAddr        string
	namesAddr       string
	brokerAddr      string
	names           nameserver.Options
	broker          broker.Options
	remoting        remoting.ServerOptions
	address         netip.AddrPort // of brokerIP1; its port may be 0
	nameServers     []string
	registerPeriod  time.Duration
	registerTimeout time.Duration // of one registration
}

// loadSettings reads the configuration. A flag that was given wins over it.
func (f *serveFlags) loadSettings(ctx context.Context, a *app, given func(flag string) bool) (*settings, error) {
	role := config.Broker
	if !f.withBroker {
		role = config.NameServer
	}
	c, lines, err := config.Load(role, f.config, f.sets)
	if err != nil {
		return nil, err
	}
	set := &settings{lines: lines, config: c, dir: f.data, httpAddr: f.httpAddr, namesAddr: f.namesrvAddr, brokerAddr: f.brokerAddr}
	for flag, keys := range a.flagsBefore(role) {
		if given(flag) {
			config.Override(lines, "--"+flag, keys...)
		}
	}
	if !given("http-listen") && c.Given("httpListen") {
		set.httpAddr = c.Text("httpListen")
	}
	set.remoting = remoting.ServerOptions{
		Transport: c.Text("transport"), MaxFrame: c.Int("maxFrameSize"), IdleTimeout: c.Duration("serverChannelMaxIdleTimeSeconds"),
	}
	if role == config.Broker && !given("data") && c.Given("storePathRootDir") {
		set.dir = c.Text("storePathRootDir")
	}
	if set.dir, err = filepath.Abs(set.dir); err != nil {
		return nil, err
	}
	kvPath := filepath.Join(set.dir, "namesrv", "kvConfig.json")
	if role == config.NameServer {
		set.listenPort(c, given("namesrv-listen"), &set.namesAddr)
		set.names = nameServerOptions(c)
		if set.names.KVPath == "" {
			set.names.KVPath = kvPath
		}
		return set, set.show(map[string]string{"kvConfigPath": set.names.KVPath, "httpListen": set.httpAddr})
	}
	set.names.KVPath = kvPath
	set.listenPort(c, given("broker-listen"), &set.brokerAddr)
	if err := set.addresses(ctx, c, a); err != nil {
		return nil, err
	}
	if set.broker.Settings, err = brokerSettings(c); err != nil {
		return nil, err
	}
	set.broker.AcceptLoss = f.acceptLoss
	set.registerPeriod = c.Duration("registerNameServerPeriod")
	set.registerTimeout = c.Duration("registerBrokerTimeoutMills")
	return set, set.show(map[string]string{
		"brokerName": set.broker.Settings.Name, "storePathRootDir": set.dir, "namesrvAddr": strings.Join(set.nameServers, ";"),
		"httpListen": set.httpAddr,
	})
}

// flagsBefore are the flags that win over settings.
func (a *app) flagsBefore(role config.Role) map[string][]string {
	flags := map[string][]string{"http-listen": {"httpListen"}}
	if role == config.NameServer {
		flags["namesrv-listen"] = []string{"listenPort", "bindAddress"}
		return flags
	}
	flags["data"], flags["broker-listen"] = []string{"storePathRootDir"}, []string{"listenPort", "bindAddress"}
	if a.nameServers != "" {
		flags["namesrv"] = []string{"namesrvAddr"}
	}
	return flags
}

// show lets tools that ask for the configuration see what holds, where it was
// not given or a flag said better.
func (set *settings) show(values map[string]string) error {
	for key, value := range values {
		if err := set.config.Set(key, value); err != nil {
			return err
		}
	}
	return nil
}

// listenPort puts bindAddress and listenPort in force where no flag says better.
func (set *settings) listenPort(c *config.Config, flagGiven bool, addr *string) {
	if flagGiven || !c.Given("listenPort") && !c.Given("bindAddress") {
		return
	}
	host, port, err := net.SplitHostPort(*addr)
	if err != nil {
		return
	}
	if c.Given("bindAddress") {
		host = c.Text("bindAddress")
	}
	if c.Given("listenPort") {
		port = fmt.Sprint(c.Int("listenPort"))
	}
	*addr = net.JoinHostPort(host, port)
}

// addresses finds the name servers and the address that clients are told.
func (set *settings) addresses(ctx context.Context, c *config.Config, a *app) error {
	list := a.nameServers
	if list == "" {
		list = c.Text("namesrvAddr")
	}
	if list == "" && set.namesAddr == "" {
		list = a.env("NAMESRV_ADDR")
	}
	if list != "" {
		addrs, err := client.ParseNameServers(list)
		if err != nil {
			return fmt.Errorf("the name servers %q: %w", list, err)
		}
		set.nameServers = addrs
	}
	host := c.Text("brokerIP1")
	if host == "" {
		return nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		found, lookupErr := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if lookupErr != nil || len(found) == 0 {
			return fmt.Errorf("brokerIP1=%s is neither an address nor a name that resolves; leave it out, and every client is told the address that it dialled", host)
		}
		ip = found[0]
	}
	set.address = netip.AddrPortFrom(ip.Unmap(), 0)
	return nil
}

func nameServerOptions(c *config.Config) nameserver.Options {
	o := nameserver.Options{
		ScanEvery: c.Duration("scanNotActiveBrokerInterval"), KVPath: c.Text("kvConfigPath"),
		OrderMessages: c.Bool("orderMessageEnable"), HideOrderConf: !c.Bool("returnOrderTopicConfigToBroker"),
		HideAllTopics: !c.Bool("enableAllTopicList"), HideTopicLists: !c.Bool("enableTopicList"),
		DeleteTopicWithBroker: c.Bool("deleteTopicWithBrokerRegistration"), SupportActingMaster: c.Bool("supportActingMaster"),
		ConfigText: c.String, UpdateConfig: c.Update,
	}
	if c.Bool("needWaitForService") {
		o.NotReadyFor = c.Duration("waitSecondsForService")
	}
	return o
}

func brokerSettings(c *config.Config) (*broker.Settings, error) {
	s := broker.DefaultSettings()
	s.Cluster, s.ID, s.Region, s.TraceOn = c.Text("brokerClusterName"), c.Int64("brokerId"), c.Text("regionId"), c.Bool("traceOn")
	if s.Name = c.Text("brokerName"); s.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("the host has no name to take for the broker's: %w; set brokerName", err)
		}
		s.Name = host
	}
	s.DefaultTopicQueues = int32(c.Int("defaultTopicQueueNums"))
	s.SyncFlush = c.Text("flushDiskType") == "SYNC_FLUSH"
	s.SegmentSize = c.Int64("mappedFileSizeCommitLog")
	s.HotBytes = memorySize() / 100 * c.Int64("accessMessageInMemoryMaxRatio")
	s.QueueFileEntries = c.Int("mappedFileSizeConsumeQueue") / 20
	s.IndexSlots, s.IndexItems = c.Int("maxHashSlotNum"), c.Int("maxIndexNum")
	s.NoIndex = !c.Bool("messageIndexEnable")
	s.FlushEvery = c.Duration("flushIntervalCommitLog")
	s.CheckpointEvery = c.Duration("flushIntervalConsumeQueue")
	s.DelaySaveEvery = c.Duration("flushDelayOffsetInterval")
	s.ClientLife = c.Duration("channelExpiredTimeout")
	s.ClusterTopic, s.BrokerTopic = c.Bool("clusterTopicEnable"), c.Bool("brokerTopicEnable")
	if s.TraceTopic = c.Text("msgTraceTopicName"); !c.Bool("traceTopicEnable") {
		s.TraceTopic = ""
	}
	s.OffsetFlushEvery = c.Duration("flushConsumerOffsetInterval")
	var err error
	if s.DelayLevels, err = schedule.ParseLevels(c.Text("messageDelayLevel")); err != nil {
		return nil, err
	}
	s.Timer = c.Bool("timerWheelEnable")
	s.Config = c
	number := func(key string, to interface{ Store(int64) }) {
		to.Store(c.Int64(key))
		c.Subscribe(key, func(key, _ string) { to.Store(c.Int64(key)) })
	}
	flag := func(key string, to interface{ Store(bool) }) {
		to.Store(c.Bool(key))
		c.Subscribe(key, func(key, _ string) { to.Store(c.Bool(key)) })
	}
	number("fileReservedTime", &s.ReservedHours)
	number("dlqReservedTime", &s.DeadHours)
	number("diskMaxUsedSpaceRatio", &s.DiskMaxUsed)
	number("diskSpaceCleanForciblyRatio", &s.DiskForce)
	number("diskSpaceWarningLevelRatio", &s.DiskWarning)
	number("storeMaxBytes", &s.StoreMaxBytes)
	flag("cleanFileForciblyEnable", &s.ForceClean)
	s.DeleteWhen.Store(c.Text("deleteWhen"))
	c.Subscribe("deleteWhen", func(_, value string) { s.DeleteWhen.Store(value) })
	number("maxTransferCountOnMessageInMemory", &s.Transfer.HotCount)
	number("maxTransferBytesOnMessageInMemory", &s.Transfer.HotBytes)
	number("maxTransferCountOnMessageInDisk", &s.Transfer.ColdCount)
	number("maxTransferBytesOnMessageInDisk", &s.Transfer.ColdBytes)
	number("syncFlushTimeout", &s.SyncFlushTimeoutMs)
	number("defaultQueryMaxNum", &s.QueryMax)
	number("maxMessageSize", &s.MaxMessageSize)
	number("timerMaxDelaySec", &s.TimerMaxDelaySec)
	flag("recallMessageEnable", &s.Recall)
	number("rebalanceLockMaxLiveTime", &s.LockLifeMs)
	number("shortPollingTimeMills", &s.ShortPollingMs)
	number("brokerPermission", &s.Permission)
	flag("autoCreateTopicEnable", &s.AutoCreateTopic)
	flag("autoCreateSubscriptionGroup", &s.AutoCreateGroup)
	flag("longPollingEnable", &s.LongPolling)
	flag("enablePropertyFilter", &s.PropertyFilter)
	flag("storeReplyMessageEnable", &s.StoreReplies)
	flag("notifyConsumerIdsChangedEnable", &s.NotifyMembers)
	flag("rejectTransactionMessage", &s.RejectTransactions)
	number("transactionTimeOut", &s.TransactionTimeoutMs)
	number("transactionCheckInterval", &s.TransactionIntervalMs)
	number("transactionCheckMax", &s.TransactionChecks)
	number("transactionMaxAge", &s.TransactionMaxAgeSec)
	return s, nil
}
