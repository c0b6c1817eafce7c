package broker

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/merlinmq/merlin/message"
)

// maxRequesters bounds how many clients' requests are remembered; beyond it any
// of the others is forgotten, which then is found by its heartbeat.
const maxRequesters = 65_536

// requesters know over which connection a client sent a request, for the
// replies to it. A client's heartbeat to this broker may be up to 30 s away
// when its first request comes.
type requesters struct {
	mu   sync.Mutex // guards what follows
	byID map[string]Client
	of   map[Client]string // the id that a connection used last
}

// remember notes that the client of that id sent a request over c.
func (r *requesters) remember(id []byte, c Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID[string(id)] == c {
		return
	}
	if r.byID == nil {
		r.byID, r.of = map[string]Client{}, map[Client]string{}
	}
	if old, known := r.of[c]; known && r.byID[old] == c {
		delete(r.byID, old)
	}
	for other, conn := range r.byID {
		if len(r.byID) < maxRequesters {
			break
		}
		delete(r.byID, other)
		delete(r.of, conn)
	}
	name := string(id)
	if before := r.byID[name]; before != nil {
		delete(r.of, before)
	}
	r.byID[name], r.of[c] = c, name
}

func (r *requesters) lookup(id string) Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

// forget drops a connection that is gone.
func (r *requesters) forget(c Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, known := r.of[c]
	if delete(r.of, c); known && r.byID[id] == c {
		delete(r.byID, id)
	}
}

// Reply is the answer to a request, as it is handed to who asked.
type Reply struct {
	Send       *SendRequest       // as the replier sent it
	Properties message.Properties // of it, with the time of the push
	StoreTime  int64              // ms
}

// Reply hands a reply to the client whose request it answers and waits until
// the client has it; the context bounds the wait. Unless settings say
// otherwise it also stores the reply, whether the client took it or not. The
// request must stay valid meanwhile. Refusals are *Error.
func (b *Broker) Reply(ctx context.Context, r *SendRequest) error {
	if err := b.mayStore(); err != nil {
		return err
	}
	if limit := b.cfg.MaxMessageSize.Load(); int64(len(r.Body)) > limit {
		return refuse(KindIllegalMessage, "the body takes %d bytes; maxMessageSize allows %d", len(r.Body), limit)
	}
	topic, err := b.topicForSend(r)
	if err != nil {
		return err
	}
	if r.QueueID, err = pickWriteQueue(topic, r.QueueID); err != nil {
		return err
	}
	err = b.pushReply(ctx, r)
	if b.cfg.StoreReplies.Load() {
		b.storeReply(r)
	}
	return err
}

func (b *Broker) pushReply(ctx context.Context, r *SendRequest) error {
	id := r.Properties.Value(message.PropReplyToClient)
	if id == "" {
		return refuse(KindSystem, "the reply has no property %s, which says who asked; make it with the client's CreateReplyMessage", message.PropReplyToClient)
	}
	client := b.requesters.lookup(id)
	if client == nil {
		if p, ok := b.clients.Producer(id); ok {
			client = p.Client
		}
	}
	if client == nil {
		return refuse(KindSystem, "push reply message fail, the client %s that asked is not connected to this broker any more", id)
	}
	now := b.now().UnixMilli()
	reply := &Reply{Send: r, StoreTime: now, Properties: r.Properties.Without(message.PropReplyPushTime).Append(message.PropReplyPushTime, strconv.FormatInt(now, 10))}
	_, err := client.Ask(ctx, &Question{Kind: AskTakeReply, ClientID: id, Topic: string(r.Topic), Reply: reply})
	return err
}

// ReplyTimeout is how long a client may take to say that it has a reply.
const ReplyTimeout = 10 * time.Second

// storeReply keeps the reply in its topic. Who asked has it by now, so that a
// failure is no failure of the reply.
func (b *Broker) storeReply(r *SendRequest) {
	s := b.NewSender()
	s.Add(r)
	if err := s.Commit()[0].Err; err != nil {
		b.events.Warn("a reply was not stored", "topic", string(r.Topic), "error", err)
	}
}

// ClientClosed forgets a connection that is gone.
func (b *Broker) ClientClosed(c Client) {
	b.requesters.forget(c)
	b.clients.Closed(c)
}
