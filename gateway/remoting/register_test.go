package gateway

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/nameserver"
	"github.com/merlinmq/merlin/remoting"
)

func openTestBroker(t *testing.T, onTopics func(broker.TopicChange)) *broker.Broker {
	t.Helper()
	s := broker.DefaultSettings()
	s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems = 1<<20, 1000, 1000, 4000
	b, err := broker.Open(t.TempDir(), broker.Options{Settings: s, OnTopics: onTopics})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return b
}

// Whoever creates a topic finds its route as soon as the call returns; a name
// server that cannot be reached does not hold the call up.
func TestNewTopicIsRoutableAtOnce(t *testing.T) {
	names, err := nameserver.New(nameserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	port, err := remoting.Listen("127.0.0.1:0", names.Handler(), remoting.ServerOptions{Transport: remoting.TransportNet})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := port.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unreachable := dead.Addr().String()
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}

	var r *Registrar
	b := openTestBroker(t, func(c broker.TopicChange) {
		if r != nil {
			r.TopicsChanged(c)
		}
	})
	failed := make(chan struct{})
	r = NewRegistrar(RegistrarOptions{
		Broker: b, NameServers: []string{port.Addr().String(), unreachable}, Port: 10911,
		Failed: func(string, error) { close(failed) },
	})
	defer r.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.WaitFirstOf(ctx, port.Addr().String()); err != nil {
		t.Fatal(err)
	}
	<-failed
	for _, topic := range []string{"one", "two", "three"} {
		if err := b.Topics().Update(broker.TopicConfig{Name: topic, ReadQueues: 2, WriteQueues: 2, Perm: broker.PermRead | broker.PermWrite}); err != nil {
			t.Fatal(err)
		}
		c, err := remoting.Dial(ctx, port.Addr().String(), remoting.ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Do(ctx, remoting.ReqGetRouteInfoByTopic, remoting.Fields{{Key: "topic", Value: topic}}, nil); err != nil {
			t.Errorf("topic %s: %v", topic, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
