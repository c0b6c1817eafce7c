package remoting

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestStopServing: what is being served is waited for, what comes later is not
// served, and answers that are due still go out.
func TestStopServing(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		const owed, slow, late = 1, 2, 3
		inside, release := make(chan struct{}, 1), make(chan struct{})
		tickets, served := make(chan Ticket, 1), make(chan int, 8)
		var owes *Conn
		s := listen(t, handler{serve: func(c *Conn, frames []Request) {
			for i := range frames {
				r := &frames[i]
				served <- r.Code
				switch r.Code {
				case owed:
					owes = c
					tickets <- r.Ticket()
				case slow:
					inside <- struct{}{}
					<-release
					c.Answer(r, Response{})
				default:
					c.Answer(r, Response{})
				}
			}
		}}, o)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		call := func(code int) <-chan error {
			c, err := Dial(ctx, s.Addr().String(), ClientOptions{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			done := make(chan error, 1)
			go func() {
				_, err := c.Do(ctx, code, nil, nil)
				if err == nil && code == slow {
					_, err = c.Do(ctx, late, nil, nil)
				}
				done <- err
			}()
			return done
		}
		first := call(owed)
		ticket := <-tickets
		second := call(slow)
		<-inside
		over, end := context.WithCancel(ctx)
		end()
		if err := s.StopServing(over); !errors.Is(err, context.Canceled) {
			t.Errorf("it did not wait for the request that is being served: %v", err)
		}
		close(release)
		if err := s.StopServing(ctx); err != nil {
			t.Fatal(err)
		}
		if err := owes.AnswerLater(ticket, Response{}); err != nil {
			t.Error(err)
		}
		if err := <-first; err != nil {
			t.Errorf("the answer that was due: %v", err)
		}
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-second; err == nil {
			t.Error("a request that came later was answered")
		}
		close(served)
		for code := range served {
			if code == late {
				t.Error("a request that came later was served")
			}
		}
	})
}
