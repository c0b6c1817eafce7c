package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// control asks a server the few questions around a run, one at a time.
type control struct {
	addr    string
	conn    net.Conn
	buf     []byte
	timeout time.Duration
	opaque  int32
}

// dial connects to a server.
func dial(ctx context.Context, addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the broker at %s (--addr takes a broker's address, not a name server's): %w", addr, err)
	}
	return conn, nil
}

func dialControl(ctx context.Context, addr string, timeout time.Duration) (*control, error) {
	conn, err := dial(ctx, addr, timeout)
	if err != nil {
		return nil, err
	}
	return &control{addr: addr, conn: conn, timeout: timeout, opaque: opaqueBase}, nil
}

// call sends the frame that build writes and waits for its answer, which is
// valid until the next call.
func (c *control) call(build func(w *requestWriter, opaque int32) []byte) (answer, error) {
	c.opaque = opaqueBase | (c.opaque+1)&opaqueMask
	var w requestWriter
	if err := c.conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return answer{}, fmt.Errorf("bench: %s: %w", c.addr, err)
	}
	if _, err := c.conn.Write(build(&w, c.opaque)); err != nil {
		return answer{}, fmt.Errorf("bench: write to %s: %w", c.addr, err)
	}
	if c.buf == nil {
		c.buf = make([]byte, 64<<10)
	}
	for have := 0; ; {
		var a answer
		used, err := nextAnswer(c.buf[:have], &a)
		if err != nil {
			return answer{}, err
		}
		if used > 0 && a.opaque == c.opaque {
			return a, nil
		}
		if used > 0 { // an answer that came too late for its call
			have = copy(c.buf, c.buf[used:have])
			continue
		}
		if have == len(c.buf) {
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
		n, err := c.conn.Read(c.buf[have:])
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return answer{}, fmt.Errorf("bench: no answer from %s: %w", c.addr, err)
		}
		have += n
	}
}

func (c *control) close() error { return c.conn.Close() }

// ensureTopic creates the topic unless it is there with enough queues.
func (c *control) ensureTopic(topic string, queues int) error {
	a, err := c.call(func(w *requestWriter, opaque int32) []byte {
		w.begin(nil, codeTopicConfig)
		w.text("topic", topic)
		b, _ := w.end(opaque, nil)
		return b
	})
	if err != nil {
		return err
	}
	if a.code == ok {
		have, found := jsonInt(a.body, `"writeQueueNums":`)
		if !found || have >= int64(queues) {
			return nil
		}
	}
	a, err = c.call(func(w *requestWriter, opaque int32) []byte {
		w.begin(nil, codeCreateTopic)
		w.text("topic", topic)
		w.text("defaultTopic", "TBW102")
		w.int("readQueueNums", int64(queues))
		w.int("writeQueueNums", int64(queues))
		w.int("perm", 6)
		w.text("topicFilterType", "SINGLE_TAG")
		w.int("topicSysFlag", 0)
		w.text("order", "false")
		b, _ := w.end(opaque, nil)
		return b
	})
	if err != nil {
		return err
	}
	if a.code != ok {
		return &ServerError{Addr: c.addr, Did: "creating topic " + topic, Code: a.code, Remark: a.remark()}
	}
	return nil
}

// queuesOf returns how many queues of the topic can be read.
func (c *control) queuesOf(topic string) (int, error) {
	a, err := c.call(func(w *requestWriter, opaque int32) []byte {
		w.begin(nil, codeTopicConfig)
		w.text("topic", topic)
		b, _ := w.end(opaque, nil)
		return b
	})
	if err != nil {
		return 0, err
	}
	n, found := jsonInt(a.body, `"readQueueNums":`)
	if a.code != ok || !found {
		return 0, &ServerError{Addr: c.addr, Did: "asking for topic " + topic, Code: a.code, Remark: a.remark()}
	}
	return int(n), nil
}

// bounds returns one end of every queue of a topic.
func (c *control) bounds(code int, topic string, queues int) ([]int64, error) {
	offsets := make([]int64, queues)
	for q := range offsets {
		a, err := c.call(func(w *requestWriter, opaque int32) []byte {
			w.begin(nil, code)
			w.text("topic", topic)
			w.int("queueId", int64(q))
			b, _ := w.end(opaque, nil)
			return b
		})
		if err != nil {
			return nil, err
		}
		offset, found := a.int(`"offset":`)
		if a.code != ok || !found {
			return nil, &ServerError{Addr: c.addr, Did: fmt.Sprintf("asking for the end of queue %d of topic %s (needed to read back what is sent; --no-verify does without)", q, topic),
				Code: a.code, Remark: a.remark()}
		}
		offsets[q] = offset
	}
	return offsets, nil
}
