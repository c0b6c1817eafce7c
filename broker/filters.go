package broker

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/merlinmq/merlin/broker/filter"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// Filter is what a subscription lets through. A nil function lets all through.
type Filter struct {
	Tag    func(code int64) bool   // asked of the queue's entry first
	Record func(message.View) bool // then of the record
	// Properties is the same as Record, where that looks at properties alone.
	Properties func(message.Properties) bool
}

// filterOf returns the filter of a pull: its own expression, or what the group
// subscribed to with its heartbeats.
func (b *Broker) filterOf(r *PullRequest, group *Group) (Filter, error) {
	sub, err := b.subscriptionOf(r, group)
	if err != nil {
		return Filter{}, err
	}
	f, err := b.filterFor(sub)
	if bad := (*Error)(nil); !r.OwnExpression && errors.As(err, &bad) && bad.Kind == KindSubscriptionParse {
		return Filter{}, &Error{Kind: KindFilterNotExist, Text: "the broker's consumer filter data is not exist, for the expression may be wrong: " + bad.Text, Cause: bad.Cause}
	}
	return f, err
}

func (b *Broker) subscriptionOf(r *PullRequest, group *Group) (*Subscription, error) {
	if r.OwnExpression {
		return ParseSubscription(r.Topic, r.Expression, r.ExpressionType, r.SubVersion)
	}
	model, known := b.clients.Subscribed(r.Group)
	if !known {
		return nil, refuse(KindSubscriptionNotExist, "the consumer's group info not exist: no member of %s has sent a heartbeat yet", r.Group)
	}
	if model == Broadcasting && !group.BroadcastEnable {
		return nil, forbid(ForbiddenBroadcast, "the consumer group[%s] can not consume by broadcast way: consumeBroadcastEnable is off", r.Group)
	}
	if group.ForbidsRead(r.Topic) {
		return nil, forbid(ForbiddenSubscription, "the consumer group[%s] is forbidden for topic[%s]", r.Group, r.Topic)
	}
	sub := b.clients.Subscription(r.Group, r.Topic)
	if sub == nil {
		return nil, refuse(KindSubscriptionNotExist, "the consumer's subscription not exist: the group %s has not subscribed to %s", r.Group, r.Topic)
	}
	if sub.Version < r.SubVersion && sub.IsTag() {
		// The client looks at the tags of what it gets, so it is given all until
		// its next heartbeat tells them: the 5.x Java client loses the heartbeat
		// after a rebalance to a lock of its own, and would stand still for 30 s.
		return &Subscription{Topic: r.Topic, Expression: SubscribeAll, Type: ExpressionTag, Version: r.SubVersion}, nil
	}
	if sub.Version < r.SubVersion {
		return nil, refuse(KindSubscriptionNotLatest, "the consumer's subscription not latest: the broker has version %d, the pull %d; the next heartbeat brings it", sub.Version, r.SubVersion)
	}
	return sub, nil
}

// filterFor compiles a subscription. Expressions over properties are not
// applied to retried messages, as in Apache's broker.
func (b *Broker) filterFor(sub *Subscription) (Filter, error) {
	if sub.IsTag() || message.IsRetryTopic(sub.Topic) {
		return Filter{Tag: sub.TagMatcher()}, nil
	}
	if !b.cfg.PropertyFilter.Load() {
		return Filter{}, refuse(KindSystem, "The broker does not support consumer to filter message by %s: enablePropertyFilter is off", sub.Type)
	}
	match, err := b.compile(sub)
	if err != nil {
		return Filter{}, err
	}
	return Filter{Record: match.match, Properties: match.properties}, nil
}

// compiled is an expression, or why it does not compile.
type compiled struct {
	match      func(message.View) bool
	properties func(message.Properties) bool
	err        *Error
}

// filterCache keeps compiled expressions by their text; safe for concurrent
// use, and the zero value is ready. When it is full, any others make room: an
// expression that is asked for again is compiled again.
type filterCache struct {
	mu     sync.RWMutex // guards what follows
	byText map[string]compiled
	bytes  int // of the texts
}

// The bounds of a filterCache. What is compiled takes up to 80 times the bytes
// of its text.
const (
	filterCacheSize  = 1000
	filterCacheBytes = 512 << 10
)

func (c *filterCache) get(text string) (compiled, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	f, ok := c.byText[text]
	return f, ok
}

func (c *filterCache) put(text string, f compiled) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byText == nil {
		c.byText = map[string]compiled{}
	}
	if _, known := c.byText[text]; known {
		return // two compiled it at the same time
	}
	for other := range c.byText {
		if len(c.byText) < filterCacheSize && c.bytes+len(text) <= filterCacheBytes {
			break
		}
		delete(c.byText, other)
		c.bytes -= len(other)
	}
	c.byText[text] = f
	c.bytes += len(text)
}

// compile returns what an SQL92 subscription lets through. Refusals are *Error.
func (b *Broker) compile(sub *Subscription) (compiled, error) {
	if sub.Type != ExpressionSQL {
		return compiled{}, refuse(KindSubscriptionParse, "the expression type %q for the topic %s is neither TAG nor SQL92", sub.Type, sub.Topic)
	}
	key := filterKey(sub.Expression)
	f, known := b.filters.get(key)
	if !known {
		f = compileText(sub.Expression, b.stamp)
		b.filters.put(key, f)
	}
	if f.err != nil {
		return compiled{}, f.err
	}
	return f, nil
}

// filterKey is under what the cache keeps an expression. What becomes of those
// that are too long depends on their length alone.
func filterKey(text string) string {
	if len(text) > MaxExpression {
		return fmt.Sprintf("(%d bytes", len(text)) // compiles no better
	}
	return text
}

// compileText compiles an expression. The stamp is what the broker adds to the
// properties of every message; it is not looked at if the expression asks for
// nothing of it.
func compileText(expression string, stamp []byte) compiled {
	e, err := filter.Compile(expression)
	if err != nil {
		shown := fmt.Sprintf("%q", expression)
		if len(expression) > 200 {
			shown = fmt.Sprintf("of %d bytes", len(expression))
		}
		return compiled{err: fail(KindSubscriptionParse, err, "the SQL92 expression %s does not compile", shown)}
	}
	match := e.Match
	if stamped := message.Properties(stamp); !e.Asks(stamped) {
		match = func(p message.Properties) bool {
			if n := len(p) - len(stamped); n > 0 && p[n-1] == 0x02 && bytes.Equal(p[n:], stamped) {
				p = p[:n]
			}
			return e.Match(p)
		}
	}
	return compiled{properties: match, match: func(v message.View) bool { return match(v.Properties()) }}
}

// checkFilters compiles what a member of a group subscribes to with its
// heartbeat, and tells the operator of an expression that is new and wrong. The
// member learns it from its pulls.
func (b *Broker) checkFilters(clientID string, consumer *ConsumerHeartbeat) {
	if !b.cfg.PropertyFilter.Load() {
		return
	}
	for _, sub := range consumer.Subscriptions {
		if sub.IsTag() || message.IsRetryTopic(sub.Topic) {
			continue
		}
		_, known := b.filters.get(filterKey(sub.Expression))
		if _, err := b.compile(sub); err != nil && !known {
			b.events.Warn("a filter of a consumer cannot be used; the group gets nothing of the topic", "group", consumer.Group, "topic", sub.Topic, "client", clientID, "error", err)
		}
	}
}

// recordScreen keeps a pull that is filtered by properties parked while
// nothing that arrives matches. It reads each arrival once.
type recordScreen struct{ broker *Broker }

// Worth implements screen. It does one read; what lies behind it is left to
// the client's next pull, so that one far behind holds up nobody.
func (s recordScreen) Worth(r *PullRequest, buf []byte) (bool, []byte) {
	b := s.broker
	topic, group, err := b.mayPull(r)
	if err != nil {
		return true, buf // the answer says why
	}
	f, err := b.filterOf(r, group)
	if err != nil || f.Record == nil {
		return true, buf
	}
	q := store.GetQuery{Topic: topic.Name, Queue: r.QueueID, Offset: r.Offset, MaxCount: screenCount, MatchTag: f.Tag, MatchRecord: f.Record}
	got, err := b.store.Get(&q, buf)
	if err != nil {
		return true, buf
	}
	switch got.Status {
	case store.GetNoMatch:
		r.Offset = got.Next
		return got.Next < got.Max, got.Body[:0]
	case store.GetOffsetAtEnd:
		return false, got.Body[:0]
	}
	return true, got.Body[:0]
}

// screenCount is how many records a screen reads together, at most.
const screenCount = 32

// Missed implements screen.
func (s recordScreen) Missed(r *PullRequest) bool {
	return s.broker.store.QueueMax(r.Topic, r.QueueID) > r.Offset
}
