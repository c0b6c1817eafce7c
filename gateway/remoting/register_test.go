package gateway

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/nameserver"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
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

// startNames starts a name server, which ends with the test.
func startNames(t *testing.T) *remoting.Server {
	t.Helper()
	names, err := nameserver.New(nameserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	port, err := remoting.Listen("127.0.0.1:0", names.Handler(), remoting.ServerOptions{Transport: remoting.TransportNet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := port.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return port
}

// Whoever creates a topic finds its route as soon as the call returns; a name
// server that cannot be reached does not hold the call up.
func TestNewTopicIsRoutableAtOnce(t *testing.T) {
	port := startNames(t)
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
	r.Start()
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

// TestPopsBesideAnotherBroker: a member of a group that pops is sent to every
// broker that has the topic, one that pulls divides by itself.
func TestPopsBesideAnotherBroker(t *testing.T) {
	port := startNames(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	first, second := start(t, nil), start(t, nil)
	second.broker.Settings().Name = "broker-b"
	var registrars []*Registrar
	for i, s := range []*server{second, first} {
		for _, topic := range []string{"both", "second"}[:2-i] {
			if err := s.broker.Topics().Update(broker.TopicConfig{Name: topic, ReadQueues: 2, WriteQueues: 2, Perm: broker.PermRead | broker.PermWrite}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.broker.Groups().AutoCreate("popg"); err != nil {
			t.Fatal(err)
		}
		if err := s.broker.SetRequestMode(broker.RequestMode{Topic: "both", Group: "popg", Pop: true}); err != nil {
			t.Fatal(err)
		}
		r := NewRegistrar(RegistrarOptions{Broker: s.broker, NameServers: []string{port.Addr().String()}, Port: uint16(10911 + i)})
		r.Start()
		defer r.Close()
		if err := r.WaitFirstOf(ctx, port.Addr().String()); err != nil {
			t.Fatal(err)
		}
		registrars = append(registrars, r)
	}
	p := dial(t, first.addr, nil)
	ask := func(group string) *remoting.Answer {
		return p.call(remoting.ReqQueryAssignment, `{"topic":"both","consumerGroup":"`+group+`","clientId":"c","strategyName":"AVG","messageModel":"CLUSTERING"}`)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		a := ask("popg")
		var out body.QueryAssignmentResponse
		if err := body.Decode(a.Body, &out); err == nil && len(out.Assignments) == 2 {
			got := map[string]bool{}
			for _, x := range out.Assignments {
				got[x.MessageQueue.BrokerName] = x.Mode == body.ModePop && x.MessageQueue.QueueID == -1
			}
			if !got["broker-a"] || !got["broker-b"] {
				t.Errorf("assigned: %s", a.Body)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("assigned: %d %s %s", a.Code, a.Remark, a.Body)
		}
		registrars[1].Again()
		time.Sleep(10 * time.Millisecond)
	}
	if a := ask("pulls"); a.Code != remoting.RespRequestCodeNotSupported {
		t.Errorf("a group that pulls: %d %s", a.Code, a.Body)
	}
}
