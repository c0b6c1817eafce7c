package remoting

import (
	"context"
	"fmt"
	"net/netip"
)

// Answer is what came back for a call. It owns its memory.
type Answer struct {
	Code     int
	Version  int
	Language byte
	Remark   string
	Fields   Fields
	Body     []byte
}

// Get returns a header field of the answer.
func (a *Answer) Get(key string) (string, bool) {
	for i := len(a.Fields) - 1; i >= 0; i-- {
		if a.Fields[i].Key == key {
			return a.Fields[i].Value, true
		}
	}
	return "", false
}

// CodeError is an answer that says that a request failed.
type CodeError struct {
	Request int // the request's code
	Code    int // the answer's
	Remark  string
	Peer    string
}

func (e *CodeError) Error() string {
	return fmt.Sprintf("%s at %s failed with %s (%d): %s", CodeName(e.Request), e.Peer, ResponseName(e.Code), e.Code, e.Remark)
}

func answerOf(r *Request) *Answer {
	a := &Answer{Code: r.Code, Version: r.Version, Language: r.Language, Remark: string(r.Remark)}
	for _, f := range r.Fields {
		a.Fields.Str(string(f.Key), string(f.Value))
	}
	if len(r.Body) > 0 {
		a.Body = append([]byte(nil), r.Body...)
	}
	return a
}

// OneWay sends a request that wants no answer. It returns when the request is
// in the connection's queue; the errors are those of Writer.End.
func (c *Conn) OneWay(code int, fields Fields, body []byte) error {
	c.mu.Lock()
	c.opaque++
	id := c.opaque
	c.mu.Unlock()
	return c.request(id, flagOneWay, code, fields, body)
}

// Call sends a request to the peer and waits for its answer, whatever its code
// is, or for ctx. It must not be used on the goroutine of Serve, which is the
// one that would have to read the answer.
func (c *Conn) Call(ctx context.Context, code int, fields Fields, body []byte) (*Answer, error) {
	answer := make(chan *Answer, 1)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, ErrClosed
	}
	if c.calls == nil {
		c.calls = map[int32]chan *Answer{}
	}
	c.opaque++
	id := c.opaque
	c.calls[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.calls, id)
		c.mu.Unlock()
	}()
	if err := c.request(id, 0, code, fields, body); err != nil {
		return nil, err
	}
	return await(ctx, answer, code, c.remote)
}

func await(ctx context.Context, answer chan *Answer, code int, peer netip.AddrPort) (*Answer, error) {
	select {
	case a, ok := <-answer:
		if !ok {
			return nil, fmt.Errorf("%s at %s was not answered: %w", CodeName(code), peer, ErrClosed)
		}
		return a, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%s at %s was not answered in time: %w", CodeName(code), peer, ctx.Err())
	}
}

func (c *Conn) request(id int32, flag int32, code int, fields Fields, body []byte) error {
	w := c.Later(Ticket{Opaque: id}, code)
	w.head.flag = flag
	return w.Fields(fields).Body(body).End()
}

// route hands an answer to the call that waits for it.
func (c *Conn) route(r *Request) {
	c.mu.Lock()
	answer := c.calls[r.Opaque]
	delete(c.calls, r.Opaque)
	c.mu.Unlock()
	if answer == nil {
		c.server.counters.late.Add(1)
		return
	}
	answer <- answerOf(r)
}
