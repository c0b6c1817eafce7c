package nameserver

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

func TestOverTheWire(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait")) // the pollers are the process's
	for _, transport := range []string{remoting.TransportNet, remoting.TransportNetpoll} {
		gone := make(chan Departure, 1)
		s := newServer(t, Options{Events: Events{Gone: func(d Departure) { gone <- d }}})
		srv, err := remoting.Listen("0.0.0.0:0", s.Handler(), remoting.ServerOptions{Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		port := srv.Addr().(*net.TCPAddr).AddrPort().Port()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		dial := func(host string) *remoting.Client {
			t.Helper()
			c, err := remoting.Dial(ctx, netip.AddrPortFrom(netip.MustParseAddr(host), port).String(), remoting.ClientOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		broker := dial("127.0.0.1")
		var f remoting.Fields
		f.Str("brokerName", "b")
		f.Str("brokerAddr", "0.0.0.0:10911")
		f.Str("clusterName", "c")
		f.Int("brokerId", 0)
		f.Bool(FieldAutoAddr, true)
		if _, err := broker.Do(ctx, remoting.ReqRegisterBroker, f, body.Encode(registration(1, "T", "U"))); err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
			c := dial(host)
			a, err := c.Do(ctx, remoting.ReqGetRouteInfoByTopic, remoting.Fields{{Key: "topic", Value: "T"}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want := `{"brokerAddrs":{"0":"` + host + `:10911"}`; !strings.Contains(string(a.Body), want) {
				t.Errorf("%s: who dialled %s is told %s", transport, host, a.Body)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
		select {
		case d := <-gone:
			if d.Broker != "b" || d.Why != "its connection closed" {
				t.Errorf("%s: %v", transport, d)
			}
		case <-ctx.Done():
			t.Errorf("%s: a closed connection did not take the broker out", transport)
		}
		if len(s.Topics()) != 0 {
			t.Errorf("%s: topics %v without a broker", transport, s.Topics())
		}
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
}
