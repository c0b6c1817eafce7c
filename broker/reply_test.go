package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/merlinmq/merlin/message"
)

// asker is a client that takes replies.
type asker struct {
	fakeClient
	refuses error
	got     []*Reply
}

func (a *asker) Ask(_ context.Context, q *Question) ([]byte, error) {
	if q.Kind != AskTakeReply {
		return nil, fmt.Errorf("asked for %d", q.Kind)
	}
	a.got = append(a.got, q.Reply)
	return nil, a.refuses
}

func TestReply(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	topic := b.cfg.Cluster + message.ReplyTopicSuffix
	first, beating := &asker{}, &asker{}
	ask := request("asked", "question", "REPLY_TO_CLIENT\x01first\x02")
	ask.Client = first
	if res := send(b, ask); res.Err != nil {
		t.Fatal(res.Err)
	}
	if err := b.Heartbeat(beating, &Heartbeat{ClientID: "beating", Producers: []string{"p"}}); err != nil {
		t.Fatal(err)
	}
	// Neither a reply nor a message that was given back makes its sender the one who asks.
	for _, r := range []*SendRequest{request("asked", "x", "REPLY_TO_CLIENT\x01first\x02MSG_TYPE\x01reply\x02"), request("asked", "x", "REPLY_TO_CLIENT\x01first\x02")} {
		r.Client, r.ReconsumeTimes = beating, int32(1-strings.Count(string(r.Properties), "MSG_TYPE"))
		if res := send(b, r); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	stored := 0
	for _, c := range []struct {
		name, to, body string
		client         *asker
	}{{"by its request", "first", "answer", first}, {"by its heartbeat", "beating", "answer", beating}, {"with an empty body", "first", "", first}} {
		t.Run(c.name, func(t *testing.T) {
			before := len(c.client.got)
			r := request(topic, c.body, "REPLY_TO_CLIENT\x01"+c.to+"\x02MSG_TYPE\x01reply\x02CORRELATION_ID\x01c\x02")
			if err := b.Reply(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			stored++
			if len(c.client.got) != before+1 {
				t.Fatal("the reply did not reach who asked")
			}
			got := c.client.got[before]
			if string(got.Send.Body) != c.body || got.Properties.Value(message.PropCorrelationID) != "c" || got.Properties.Value(message.PropReplyPushTime) == "" {
				t.Errorf("pushed %q with %q", got.Send.Body, got.Properties)
			}
			if kept := pullAll(t, b, topic, 0, stored); len(kept) != stored {
				t.Errorf("%d replies are stored, want %d", len(kept), stored)
			}
		})
	}
	refused := func(what, to, want string) {
		t.Helper()
		err := b.Reply(t.Context(), request(topic, "x", to))
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	refused("a reply to nobody", "", "REPLY_TO_CLIENT")
	b.ClientClosed(first)
	refused("a reply to a connection that is gone", "REPLY_TO_CLIENT\x01first\x02", "not connected")
	b.cfg.StoreReplies.Store(false)
	beating.refuses = refuse(KindConsumerTimeout, "no answer in time")
	refused("a requester that does not answer", "REPLY_TO_CLIENT\x01beating\x02", "no answer")
	b.cfg.StoreReplies.Store(true)
	refused("the same, to be stored", "REPLY_TO_CLIENT\x01beating\x02", "no answer")
	if kept := pullAll(t, b, topic, 0, stored+3); len(kept) != stored+3 {
		t.Errorf("%d replies are stored, want %d: all but the one while storeReplyMessageEnable was false", len(kept), stored+3)
	}
}

// TestRequestersBound: the table of who asked keeps its bound and its two sides
// agree.
func TestRequestersBound(t *testing.T) {
	var r requesters
	one := &asker{}
	for i := range 10 {
		r.remember(fmt.Append(nil, "id", i), one)
	}
	if len(r.byID) != 1 || r.lookup("id9") != one {
		t.Errorf("one connection holds %d places", len(r.byID))
	}
	clients := make([]asker, maxRequesters+100)
	for i := range clients {
		r.remember(fmt.Append(nil, "c", i), &clients[i])
	}
	if len(r.byID) != maxRequesters || len(r.of) != maxRequesters {
		t.Errorf("%d ids and %d connections, want %d", len(r.byID), len(r.of), maxRequesters)
	}
	for i := range clients {
		r.forget(&clients[i])
	}
	r.forget(one)
	if len(r.byID)+len(r.of) != 0 {
		t.Errorf("%d ids and %d connections are left", len(r.byID), len(r.of))
	}
}
