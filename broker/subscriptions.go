package broker

import (
	"slices"
	"strings"

	"github.com/merlinmq/merlin/broker/filter"
	"github.com/merlinmq/merlin/message"
)

// The types of filter expressions.
const (
	ExpressionTag = "TAG"
	ExpressionSQL = "SQL92"
)

// MaxExpression is how many bytes a filter expression may have.
const MaxExpression = filter.MaxLength

// SubscribeAll is the expression that every message matches.
const SubscribeAll = "*"

// Subscription is what a group wants of a topic. It never changes once made.
type Subscription struct {
	Topic      string   `json:"topic"`
	Expression string   `json:"expression"` // as the client wrote it
	Type       string   `json:"type"`       // ExpressionTag or ExpressionSQL
	Tags       []string `json:"tags,omitempty"`
	Codes      []int64  `json:"codes,omitempty"` // of the tags, as queues keep them
	Version    int64    `json:"version"`         // grows with each change a client makes
	Class      bool     `json:"class,omitempty"` // filtered by a class, which is obsolete
}

// IsTag tells whether messages are chosen by their tags.
func (s *Subscription) IsTag() bool { return s.Type == "" || s.Type == ExpressionTag }

// All tells whether every message is wanted.
func (s *Subscription) All() bool {
	return s.IsTag() && (s.Expression == "" || s.Expression == SubscribeAll || len(s.Codes) == 0)
}

// MatchTag tells whether a message with this tag code may be wanted: codes are
// hashes, so the client still has to look at the tag.
func (s *Subscription) MatchTag(code int64) bool {
	switch len(s.Codes) {
	case 0:
		return true
	case 1:
		return code == s.Codes[0]
	case 2:
		return code == s.Codes[0] || code == s.Codes[1]
	case 3:
		return code == s.Codes[0] || code == s.Codes[1] || code == s.Codes[2]
	}
	_, found := slices.BinarySearch(s.Codes, code)
	return found
}

// TagMatcher returns MatchTag, or nil if every message is wanted.
func (s *Subscription) TagMatcher() func(code int64) bool {
	if !s.IsTag() || s.All() {
		return nil
	}
	return s.MatchTag
}

// ParseSubscription reads a filter expression as Apache's broker does. An SQL
// expression is not compiled here. Refusals are *Error.
func ParseSubscription(topic, expression, kind string, version int64) (*Subscription, error) {
	s := &Subscription{Topic: topic, Expression: expression, Type: kind, Version: version}
	if s.Type == "" {
		s.Type = ExpressionTag
	}
	switch {
	case len(expression) > MaxExpression:
		return nil, refuse(KindSubscriptionParse, "the expression for the topic %s is longer than the %d bytes that are allowed", topic, MaxExpression)
	case s.Type == ExpressionSQL && strings.TrimSpace(expression) == "":
		return nil, refuse(KindSubscriptionParse, "the SQL92 expression for the topic %s is empty", topic)
	case s.Type == ExpressionSQL:
		return s, nil
	case s.Type != ExpressionTag:
		return nil, refuse(KindSubscriptionParse, "the expression type %q for the topic %s is neither TAG nor SQL92", kind, topic)
	case expression == "" || expression == SubscribeAll:
		s.Expression = SubscribeAll
		return s, nil
	}
	for tag := range strings.SplitSeq(expression, "||") {
		if tag = strings.TrimSpace(tag); tag != "" {
			s.Tags = append(s.Tags, tag)
		}
	}
	if len(s.Tags) == 0 {
		return nil, refuse(KindSubscriptionParse, "the expression %q for the topic %s holds no tag; write tags with || between them, or *", expression, topic)
	}
	s.setCodes()
	return s, nil
}

// NewSubscription is a subscription as a client's heartbeat tells it: codes are
// taken from the heartbeat, and computed from the tags if it has none.
func NewSubscription(topic, expression, kind string, version int64, tags []string, codes []int64) *Subscription {
	s := &Subscription{Topic: topic, Expression: expression, Type: kind, Version: version, Tags: tags, Codes: codes}
	if s.Type == "" {
		s.Type = ExpressionTag
	}
	switch {
	case !s.IsTag(), expression == SubscribeAll, expression == "":
		s.Codes = nil
	case len(codes) == 0:
		s.setCodes()
	default:
		s.Codes = slices.Clone(codes)
		slices.Sort(s.Codes)
	}
	return s
}

func (s *Subscription) setCodes() {
	s.Codes = make([]int64, 0, len(s.Tags))
	for _, tag := range s.Tags {
		s.Codes = append(s.Codes, message.TagCode(tag))
	}
	slices.Sort(s.Codes)
	s.Codes = slices.Compact(s.Codes)
}
