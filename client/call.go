package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/merlinmq/merlin/remoting"
)

// caller is a connection to one server. Safe for concurrent use.
type caller interface {
	Call(ctx context.Context, code int, fields remoting.Fields, body []byte) (*remoting.Answer, error)
	Close() error
}

// answer is what a server said, whatever the code.
type answer struct {
	fields remoting.Fields
	body   []byte
}

// field returns a header field, "" if it is not there.
func (a *answer) field(name string) string {
	for i := len(a.fields) - 1; i >= 0; i-- {
		if a.fields[i].Key == name {
			return a.fields[i].Value
		}
	}
	return ""
}

// call makes one call to one server. op says in words what it is for. A code
// that is not success is a *ServerError.
func (a *Admin) call(ctx context.Context, role, addr, op string, code int, fields remoting.Fields, body []byte) (answer, error) {
	return a.callFor(ctx, a.timeout, role, addr, op, code, fields, body)
}

// callFor is call with another time-out. It returns the answer together with
// the *ServerError.
func (a *Admin) callFor(ctx context.Context, timeout time.Duration, role, addr, op string, code int, fields remoting.Fields, body []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for again := false; ; again = true {
		c, fresh, err := a.connect(ctx, role, addr)
		if err != nil {
			return answer{}, fmt.Errorf("%s: %w", op, err)
		}
		ans, err := c.Call(ctx, code, fields, body)
		if err == nil {
			if ans.Code != remoting.RespSuccess {
				err = &ServerError{Addr: addr, Op: op, Code: ans.Code, Remark: strings.TrimSpace(ans.Remark)}
			}
			return answer{fields: ans.Fields, body: ans.Body}, err
		}
		if errors.Is(err, context.Canceled) {
			return answer{}, fmt.Errorf("%s: %w", op, err)
		}
		a.drop(addr, c)
		// A connection from an earlier call may have died since; everything
		// that an Admin asks can be asked twice.
		if fresh || again || ctx.Err() != nil {
			return answer{}, fmt.Errorf("%s: %w", op, &UnreachableError{Role: role, Addr: addr, Err: err})
		}
	}
}

// connect returns the connection to a server, and whether it is new.
func (a *Admin) connect(ctx context.Context, role, addr string) (c caller, fresh bool, err error) {
	a.mu.Lock()
	c, closed := a.conns[addr], a.closed
	a.mu.Unlock()
	if closed {
		return nil, false, errors.New("the client is closed")
	}
	if c != nil {
		return c, false, nil
	}
	c, err = a.dial(ctx, addr)
	if err != nil {
		return nil, false, &UnreachableError{Role: role, Addr: addr, Err: err}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if other := a.conns[addr]; other != nil || a.closed { // somebody was faster
		_ = c.Close() // never used
		if a.closed {
			return nil, false, errors.New("the client is closed")
		}
		return other, false, nil
	}
	a.conns[addr] = c
	return c, true, nil
}

// drop forgets a connection that failed.
func (a *Admin) drop(addr string, c caller) {
	a.mu.Lock()
	if a.conns[addr] == c {
		delete(a.conns, addr)
	}
	a.mu.Unlock()
	_ = c.Close() // it failed already, and that is what is reported
}

// Close closes all connections. Calls that wait fail.
func (a *Admin) Close() error {
	a.mu.Lock()
	conns := a.conns
	a.conns, a.closed = nil, true
	a.mu.Unlock()
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
