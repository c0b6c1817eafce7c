package broker

import (
	"context"
	"net/netip"
	"time"

	"github.com/merlinmq/merlin/message"
)

// Client is a connection to a client, in no wire's words. Gateways implement
// it; a value must be comparable and stand for one connection. The methods may
// be called from any goroutine, and all but Ask return without waiting for the
// client.
type Client interface {
	RemoteAddr() netip.AddrPort
	// NotifyConsumersChanged tells that the members of the group or their
	// subscriptions changed, so that it divides the queues anew.
	NotifyConsumersChanged(group string)
	// ResetOffsets tells a consumer to go on at other offsets.
	ResetOffsets(r *OffsetReset)
	// CheckTransaction asks a producer what became of a transaction; the answer
	// comes as an end of the transaction.
	CheckTransaction(c *TransactionCheck) error
	// Ask asks a client for something and waits for the answer, which is in the
	// client's own words. The context bounds the wait.
	Ask(ctx context.Context, q *Question) ([]byte, error)
}

// OffsetReset tells the members of a group where to go on in a topic.
type OffsetReset struct {
	Group     string
	Topic     string
	Timestamp int64 // ms; what was asked for
	Force     bool
	Offsets   map[QueueRef]message.Offset
}

// TransactionCheck is a half message whose producer is asked for the outcome.
type TransactionCheck struct {
	Group       string
	Topic       string
	HalfOffset  message.Offset   // in the half queue
	Position    message.Position // of the half record
	MessageID   string           // the unique key
	OffsetID    string
	Transaction string
	Record      []byte // with the real topic and queue
}

// QuestionKind is what a Question is about.
type QuestionKind int

// What can be asked of a client.
const (
	AskRunningInfo     QuestionKind = iota // how a consumer is doing
	AskConsumeDirectly                     // consume this record now
	AskQueueOffsets                        // how far a consumer is in a topic
	AskTakeReply                           // take the reply to a request
)

// Question is something that only the client knows.
type Question struct {
	Kind      QuestionKind
	Group     string
	ClientID  string
	Topic     string
	MessageID string
	Stacks    bool   // with the client's thread stacks
	Record    []byte // for AskConsumeDirectly
	Reply     *Reply // for AskTakeReply
}

// ConsumeType is who starts the transfer of a message.
type ConsumeType byte

// The consume types.
const (
	ConsumeActively  ConsumeType = iota // the application pulls
	ConsumePassively                    // the client library pushes
	ConsumePop                          // the broker hands out
)

// MessageModel is how a group's members share messages.
type MessageModel byte

// The message models.
const (
	Clustering MessageModel = iota
	Broadcasting
)

// ConsumeFrom is where a group that has no offsets begins.
type ConsumeFrom byte

// Where to begin.
const (
	FromLastOffset ConsumeFrom = iota
	FromFirstOffset
	FromTimestamp
)

// Heartbeat is what a client tells about itself, every 30 s or so.
type Heartbeat struct {
	ClientID  string
	Language  byte // as the client numbers it
	Version   int32
	Producers []string // groups
	Consumers []ConsumerHeartbeat
	// Partial: the subscriptions are left out because they did not change.
	Partial bool
}

// ConsumerHeartbeat is one consumer group of a Heartbeat.
type ConsumerHeartbeat struct {
	Group         string
	Type          ConsumeType
	Model         MessageModel
	From          ConsumeFrom
	UnitMode      bool
	Subscriptions []*Subscription
}

// ClientInfo is one client of a group.
type ClientInfo struct {
	Client        Client
	ID            string
	Language      byte
	Version       int32
	LastHeartbeat time.Time
	Subscriptions []*Subscription // of this member; nil for producers

	signature string    // of the subscriptions
	joined    time.Time // when it first sent these subscriptions
}

// ConsumerGroup is what the members of a group say of it.
type ConsumerGroup struct {
	Name          string
	Type          ConsumeType
	Model         MessageModel
	From          ConsumeFrom
	Members       []ClientInfo // sorted by id
	Subscriptions []*Subscription
}

// clientLife is how long a client counts as alive after its last heartbeat,
// unless Settings.ClientLife says otherwise.
const clientLife = 120 * time.Second
