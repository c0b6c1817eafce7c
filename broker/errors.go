package broker

import "fmt"

// Kind says what sort of refusal an Error is. A gateway maps each Kind to its
// protocol's code in one table.
type Kind int

// The kinds of refusals.
const (
	KindSystem                Kind = iota // something failed that is not the caller's doing
	KindBusy                              // too much at once; try again later
	KindUnavailable                       // the broker takes no messages now; another one may
	KindDiskFull                          // as KindUnavailable, because the disk or the byte budget is used up
	KindIllegalMessage                    // the message itself breaks a rule
	KindInvalidParameter                  // a name or number in the request breaks a rule
	KindNoPermission                      // not allowed by permission bits, group settings or policy
	KindTopicNotExist                     //
	KindGroupNotExist                     //
	KindNotFound                          // what was asked for is not stored
	KindSubscriptionParse                 // a filter expression does not compile
	KindSubscriptionNotExist              // the group has not subscribed to the topic, or sent no heartbeat yet
	KindSubscriptionNotLatest             // the request's subscription is newer than the broker's
	KindFilterNotExist                    // no compiled filter for the subscription
	KindFilterNotLatest                   //
	KindConsumerNotOnline                 //
	KindConsumerTimeout                   // a client did not answer a relayed call in time
	KindNoMessage                         // an acknowledgement names a place outside the queue
	KindPollingFull                       // too many parked requests
	KindPollingTimeout                    //
	KindIllegalOperation                  // the state of a transaction or a recall forbids it
	kinds                                 // how many there are
)

// Forbidden says what forbids a pull, for clients that ask.
type Forbidden int

// What can forbid a pull.
const (
	ForbiddenBroker       Forbidden = 1
	ForbiddenGroup        Forbidden = 2
	ForbiddenTopic        Forbidden = 3
	ForbiddenBroadcast    Forbidden = 4
	ForbiddenSubscription Forbidden = 5
)

// Kinds returns all kinds, for tests that a table covers them.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Error is a refusal: its text is written for the reader of the client's log.
type Error struct {
	Kind      Kind
	Text      string
	Forbidden Forbidden // 0 unless KindNoPermission of a pull
	Cause     error     // may be nil
}

// Error implements error.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Text + ": " + e.Cause.Error()
	}
	return e.Text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

func refuse(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

func fail(kind Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...), Cause: cause}
}
