package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/merlinmq/merlin/broker"
	gateway "github.com/merlinmq/merlin/gateway/remoting"
	"github.com/merlinmq/merlin/nameserver"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/store"
	"github.com/spf13/cobra"
)

// server is everything that runs in one process.
type server struct {
	app *app
	log *slog.Logger

	http       *httpServer
	names      *nameserver.Server
	namesLoop  context.CancelFunc
	namesDone  chan struct{}
	namesPort  *remoting.Server
	broker     *broker.Broker
	gateway    *gateway.Gateway
	brokerPort *remoting.Server
	vipPort    *remoting.Server                  // two below the broker's, for clients that still dial it
	registrar  atomic.Pointer[gateway.Registrar] // the broker's goroutines tell it what changes
	stopping   atomic.Bool                       // what ends now ends because it was asked to
}

// serve runs what the flags ask for until the context ends.
func (a *app) serve(cmd *cobra.Command, f *serveFlags) error {
	set, err := f.loadSettings(cmd.Context(), a, cmd.Flags().Changed)
	if set != nil {
		for _, line := range set.lines {
			a.announceSetting(line)
		}
	}
	if err != nil {
		return err
	}
	remoting.SetTransportLog(io.Discard)
	s := &server{app: a, log: slog.New(slog.NewTextHandler(a.err, nil))}
	if err = s.start(cmd.Context(), set); err != nil {
		if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
			s.log.Info("stopped before it was ready; the next start begins anew")
			return s.close()
		}
		return errors.Join(err, s.close())
	}
	a.announceReady()
	<-cmd.Context().Done()
	return s.stop()
}

// start opens and starts the parts from the bottom up.
func (s *server) start(ctx context.Context, set *settings) (err error) {
	leanHeap()
	if set.httpAddr != "" {
		if s.http, err = listenHTTP(set.httpAddr, s.log); err != nil {
			return err
		}
		s.app.announceListener("http", s.http.listener.Addr())
	}
	if set.brokerAddr != "" { // before a port is there that clients and brokers use
		if err := s.openBroker(ctx, set); err != nil {
			return err
		}
	}
	if set.namesAddr != "" {
		if err := s.startNames(set, set.namesAddr); err != nil {
			return err
		}
	}
	if set.brokerAddr != "" {
		if err := s.startBroker(ctx, set); err != nil {
			return err
		}
	}
	if s.http != nil {
		s.http.collect(s)
		s.http.ready.Store(true)
	}
	return nil
}

func (s *server) startNames(set *settings, addr string) (err error) {
	o := set.names
	o.Events = nameserver.Events{
		Joined: func(b nameserver.Broker) { s.log.Info("a broker has registered", "broker", b.Name, "address", b.Addr) },
		Gone: func(d nameserver.Departure) {
			level := slog.LevelWarn
			if s.stopping.Load() {
				level = slog.LevelDebug
			}
			s.log.Log(context.Background(), level, "a broker is gone", "broker", d.Broker, "address", d.Addr, "reason", d.Why)
		},
	}
	if s.names, err = nameserver.New(o); err != nil {
		return err
	}
	ln, err := bind("name server", "--namesrv-listen", addr)
	if err != nil {
		return err
	}
	if s.namesPort, err = s.accept("name server", ln, s.names.Handler(), set.remoting); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.namesLoop, s.namesDone = cancel, make(chan struct{})
	go func() {
		defer close(s.namesDone)
		_ = s.names.Run(ctx)
	}()
	s.app.announceListener("namesrv", s.namesPort.Addr())
	return nil
}

// bind takes an address; nobody is served there before accept.
func bind(what, flag, addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("the %s cannot listen on %s: %w; choose another address with %s", what, addr, err, flag)
	}
	return ln, nil
}

// accept serves at what bind has taken.
func (s *server) accept(what string, ln net.Listener, h remoting.Handler, o remoting.ServerOptions) (*remoting.Server, error) {
	o.Events = s.connectionEvents(what)
	return remoting.Serve(ln, h, o)
}

// leanHeap lets the collector run when a third of the heap is garbage. Sends
// and pulls make none; without it, what a client that floods makes the server
// read would take twice its bound before it is given back.
var leanHeap = sync.OnceFunc(func() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(35)
	}
})

// spareProcessor lets Go run one goroutine more than there are CPUs, unless the
// user has said how many. Whoever comes back from an fsync, for which all wait,
// would else stand in line behind the senders that are at work.
var spareProcessor = sync.OnceFunc(func() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
})

// openBroker opens the data folder, which recovers it.
func (s *server) openBroker(ctx context.Context, set *settings) (err error) {
	o := set.broker
	o.OnTopics = func(c broker.TopicChange) {
		if r := s.registrar.Load(); r != nil {
			r.TopicsChanged(c)
		}
	}
	o.Events = s.brokerEvents()
	done := s.showRecovery(&o)
	if o.Settings.SyncFlush {
		spareProcessor()
	}
	o.Context = ctx
	s.broker, err = broker.Open(set.dir, o)
	done()
	if err != nil {
		return folderAdvice(set.dir, err)
	}
	return nil
}

func (s *server) startBroker(ctx context.Context, set *settings) error {
	if err := s.serveBroker(set); err != nil {
		return err
	}
	return s.awaitRegistration(ctx)
}

// serveBroker opens the broker's port. What the first connection and the first
// new topic need is there before: the port in message ids, and the registrar.
func (s *server) serveBroker(set *settings) error {
	ln, err := bind("broker", "--broker-listen", set.brokerAddr)
	if err != nil {
		return err
	}
	port := portOf(ln.Addr())
	if err := set.show(map[string]string{"listenPort": fmt.Sprint(port)}); err != nil {
		return errors.Join(err, ln.Close())
	}
	address := brokerAddress(set.address, ln.Addr())
	s.broker.SetStoreHost(storeHost(address, ln.Addr()))
	s.gateway = gateway.New(gateway.Options{Broker: s.broker, Address: address, Port: port, Config: set.config, Panic: s.connectionEvents("broker").Panic})
	r := s.newRegistrar(set, address, port)
	s.registrar.Store(r)
	if s.brokerPort, err = s.accept("broker", ln, s.gateway, set.remoting); err != nil {
		return err
	}
	s.startVIP(set, set.brokerAddr, port)
	s.app.announceListener("broker", s.brokerPort.Addr())
	r.Start()
	return nil
}

// brokerAddress is the one address under which clients reach the broker: what
// brokerIP1 says, or the one that it listens on, since nobody answers on another.
// Invalid, if it listens on all of them: then each client knows best.
func brokerAddress(set netip.AddrPort, listener net.Addr) netip.AddrPort {
	at := netip.MustParseAddrPort(listener.String())
	switch {
	case set.IsValid():
		return netip.AddrPortFrom(set.Addr(), at.Port())
	case at.Addr().IsUnspecified():
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// showRecovery shows how far reading the log is, at /readyz and on a terminal.
// The function that it returns takes the bar away.
func (s *server) showRecovery(o *broker.Options) (done func()) {
	const what = "recovering the log"
	bar := s.app.progress(what)
	if s.http != nil {
		s.http.setStage(what)
	}
	o.Progress = func(done, total int64) {
		bar.set(done, total)
		if s.http != nil {
			s.http.progress(done, total)
		}
	}
	tell := o.Events.Store.Recovered
	o.Events.Store.Recovered = func(r store.Recovery) {
		bar.done() // the line about it stands on a line of its own
		tell(r)
	}
	return bar.done
}

// folderAdvice adds to why a data folder cannot be opened what to do about it.
func folderAdvice(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w; the disk of %s is full: make room and start again, nothing was deleted", err, dir)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; the broker must be able to write to %s: remount the disk or change the owner, or name another folder with --data", err, dir)
	}
	return err
}

// startVIP also listens two ports below, where old clients send to. It does
// not matter when that port is taken.
func (s *server) startVIP(set *settings, addr string, port uint16) {
	host, asked, err := net.SplitHostPort(addr)
	if err != nil || asked == "0" || port < 3 {
		return
	}
	o := set.remoting
	o.Events = s.connectionEvents("broker")
	s.vipPort, err = remoting.Listen(net.JoinHostPort(host, fmt.Sprint(port-2)), s.gateway, o)
	if err != nil {
		s.vipPort = nil
		s.log.Warn("the port for old clients is taken; clients before 4.5 that use the VIP channel will not reach the broker", "port", port-2, "error", err)
	}
}

func (s *server) newRegistrar(set *settings, address netip.AddrPort, port uint16) *gateway.Registrar {
	servers := set.nameServers
	if s.namesPort != nil {
		servers = append([]string{loopback(s.namesPort.Addr())}, servers...)
	}
	if len(servers) == 0 {
		s.log.Warn("no name server is given: clients will not find this broker; name them with --namesrv or namesrvAddr")
	}
	return gateway.NewRegistrar(gateway.RegistrarOptions{
		Broker: s.broker, NameServers: servers, Address: address, Port: port, HAPort: port + 1, Period: set.registerPeriod, Timeout: set.registerTimeout,
		Failed: func(addr string, err error) {
			s.log.Warn("the name server cannot be reached; it is tried again", "nameserver", addr, "error", err)
		},
		Registered: func(addr string) { s.log.Info("registered at the name server", "nameserver", addr) },
	})
}

// awaitRegistration waits until clients find the broker at the name server of
// this process, if there is one.
func (s *server) awaitRegistration(ctx context.Context) error {
	if s.namesPort == nil {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := s.registrar.Load().WaitFirstOf(wait, loopback(s.namesPort.Addr()))
	if err != nil && ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *server) connectionEvents(what string) remoting.Events {
	log := s.log.With("port", what)
	return remoting.Events{
		Closed: func(peer netip.AddrPort, cause remoting.Cause, err error) {
			switch cause {
			case remoting.CausePeer, remoting.CauseLocal, remoting.CauseShutdown, remoting.CauseIdle:
				log.Debug("connection closed", "peer", peer, "cause", cause.String())
			default:
				log.Warn("connection closed", "peer", peer, "cause", cause.String(), "error", err)
			}
		},
		BadFrame: func(peer netip.AddrPort, err error) { log.Warn("a frame cannot be read", "peer", peer, "error", err) },
		Busy: func(peer netip.AddrPort, reason string) {
			log.Warn("requests are refused", "peer", peer, "reason", reason)
		},
		Panic: func(peer netip.AddrPort, value any, stack []byte) {
			log.Error("a request hit a bug; the broker goes on", "peer", peer, "panic", value, "stack", string(stack))
		},
		Accept: func(err error) { log.Warn("a connection cannot be accepted", "error", err) },
	}
}

func portOf(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }

// told is how a listening address is printed: one that can be dialled.
func told(a net.Addr) string {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	if p.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), p.Port()).String()
	}
	return p.String()
}

// loopback is how this process reaches its own listener.
func loopback(a net.Addr) string {
	p := netip.MustParseAddrPort(a.String())
	if p.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.Port()).String()
	}
	return p.String()
}

// storeHost is the address in message ids where no connection tells a better one.
func storeHost(set netip.AddrPort, listener net.Addr) netip.AddrPort {
	if set.IsValid() {
		return set
	}
	return netip.MustParseAddrPort(loopback(listener))
}

func (s *server) brokerEvents() broker.Events {
	return broker.Events{
		Warn: func(text string, pairs ...any) { s.log.Warn(text, pairs...) },
		Store: store.Events{
			Recovered: func(r store.Recovery) {
				if !r.Clean || r.Damaged > 0 {
					s.log.Info("the log was recovered", "from", r.From, "end", r.End, "records", r.Records, "dispatched", r.Dispatched,
						"damaged", r.Damaged, "cut", r.Cut, "took", r.Took)
				}
			},
			Damaged: func(file string, err error) { s.log.Error("stored data is damaged", "file", file, "error", err) },
			Skipped: func(err *store.RecordError) { s.log.Warn("a message cannot be read", "error", err) },
			Uncheckpointed: func(err error) {
				s.log.Warn("the disk has no room for a checkpoint; it is tried again, and a start after a crash takes longer meanwhile", "error", err)
			},
			Failed: func(err error) {
				s.log.Error("the disk has failed; no more messages are taken", "error", err)
				if r := s.registrar.Load(); r != nil {
					r.Again()
				}
			},
		},
	}
}
