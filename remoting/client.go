package remoting

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ClientOptions are the settings of a client connection. The zero value of a
// member means its default.
type ClientOptions struct {
	MaxFrame     int           // bytes of a whole frame that is accepted, default 16 MiB
	WriteTimeout time.Duration // until a request must be with the kernel, default 10 s
	Encoding     byte          // of requests, default EncodingJSON
	Language     byte          // that the client says it is written in, default LangGo

	// Handler gets the requests of the server, on the goroutine that reads;
	// it answers them with Client.Reply, or not at all. The request is valid
	// until it returns. Without it they are answered REQUEST_CODE_NOT_SUPPORTED.
	Handler func(c *Client, r *Request)
}

// Client is one connection to a server. All methods may be used concurrently.
// It does not reconnect: when Done is closed, dial again.
type Client struct {
	o      ClientOptions
	conn   net.Conn
	remote netip.AddrPort
	local  netip.AddrPort
	done   chan struct{}

	writeMu sync.Mutex // guards what follows, and the order of writes
	out     []byte
	head    header

	mu     sync.Mutex // guards what follows
	calls  map[int32]chan *Answer
	opaque int32
	err    error // why the connection has ended
}

// Dial connects to addr (host:port) within ctx.
func Dial(ctx context.Context, addr string, o ClientOptions) (*Client, error) {
	if o.MaxFrame == 0 {
		o.MaxFrame = 16 << 20
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 10 * time.Second
	}
	if o.Language == 0 {
		o.Language = LangGo
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("remoting: cannot connect to %s: %w", addr, err)
	}
	c := &Client{
		o: o, conn: conn, done: make(chan struct{}), calls: map[int32]chan *Answer{},
		remote: addrPort(conn.RemoteAddr()), local: addrPort(conn.LocalAddr()),
	}
	go c.read()
	return c, nil
}

// RemoteAddr is the server's address, LocalAddr the one that it sees.
func (c *Client) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr is described at RemoteAddr.
func (c *Client) LocalAddr() netip.AddrPort { return c.local }

// Done is closed when the connection has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the connection has ended, or nil while it has not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection; calls that wait fail with ErrClosed. Done is
// closed when the connection's goroutine has left, which may be in Handler.
func (c *Client) Close() error {
	c.end(ErrClosed)
	return nil
}

func (c *Client) end(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	calls := c.calls
	c.calls = nil
	c.mu.Unlock()
	c.conn.Close()
	for _, answer := range calls {
		close(answer)
	}
}

// Call sends a request and waits for its answer, whatever its code is, or for
// ctx. Do is the same with an error for every code but success.
func (c *Client) Call(ctx context.Context, code int, fields Fields, body []byte) (*Answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	answer := make(chan *Answer, 1)
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return nil, c.closedError(code, err)
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
	if err := c.send(id, 0, code, c.o.Encoding, "", fields, body); err != nil {
		return nil, err
	}
	return await(ctx, answer, code, c.remote)
}

// Do is Call, with a *CodeError where the answer's code is not RespSuccess. The
// answer is returned as well.
func (c *Client) Do(ctx context.Context, code int, fields Fields, body []byte) (*Answer, error) {
	a, err := c.Call(ctx, code, fields, body)
	if err == nil && a.Code != RespSuccess {
		err = &CodeError{Request: code, Code: a.Code, Remark: a.Remark, Peer: c.remote.String()}
	}
	return a, err
}

// OneWay sends a request that wants no answer. It returns when the kernel has
// it.
func (c *Client) OneWay(code int, fields Fields, body []byte) error {
	c.mu.Lock()
	c.opaque++
	id := c.opaque
	c.mu.Unlock()
	return c.send(id, flagOneWay, code, c.o.Encoding, "", fields, body)
}

// Reply answers a request of the server.
func (c *Client) Reply(t Ticket, resp Response) error {
	if t.OneWay {
		return nil
	}
	return c.send(t.Opaque, flagResponse, resp.Code, t.Encoding, resp.Remark, resp.Fields, resp.Body)
}

func (c *Client) closedError(code int, err error) error {
	return fmt.Errorf("%s could not be sent to %s: %w", CodeName(code), c.remote, err)
}

func (c *Client) send(id, flag int32, code int, encoding byte, remark string, fields Fields, body []byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	h := &c.head
	h.reset(encoding, code, id, flag)
	h.language = c.o.Language
	h.remark = remark
	for _, f := range fields {
		h.str(f.Key, f.Value)
	}
	out, ok := h.appendFrame(c.out[:0], body)
	if !ok {
		return ErrTooLarge
	}
	if c.out = out; cap(out) > 1<<20 {
		c.out = nil
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.o.WriteTimeout)); err != nil {
		return c.closedError(code, err)
	}
	if _, err := c.conn.Write(out); err != nil {
		c.end(err) // a part of the frame may be out: nothing can follow it
		return c.closedError(code, err)
	}
	return nil
}

func (c *Client) read() {
	defer close(c.done)
	in := bufio.NewReaderSize(c.conn, 16<<10)
	var d Decoder
	var frame []byte
	for {
		n, err := c.readLength(in)
		if err != nil {
			c.end(err)
			return
		}
		// What a length promises is not trusted with memory before it comes.
		frame = frame[:0]
		for len(frame) < n {
			const step = 1 << 20
			from := len(frame)
			frame = append(frame, make([]byte, min(n-from, step))...)
			if _, err := io.ReadFull(in, frame[from:]); err != nil {
				c.end(fmt.Errorf("remoting: %s broke off in a frame: %w", c.remote, err))
				return
			}
		}
		if !c.receive(&d, frame) {
			return
		}
		if cap(frame) > 1<<20 {
			frame = nil
		}
	}
}

func (c *Client) readLength(in *bufio.Reader) (int, error) {
	var b [4]byte
	if _, err := io.ReadFull(in, b[:]); err != nil {
		if err == io.EOF {
			return 0, fmt.Errorf("remoting: %s closed the connection: %w", c.remote, io.EOF)
		}
		return 0, fmt.Errorf("remoting: reading from %s: %w", c.remote, err)
	}
	if n := binary.BigEndian.Uint32(b[:]); n < 4 || int64(n)+4 > int64(c.o.MaxFrame) {
		return 0, fmt.Errorf("remoting: %s sent a frame of %d bytes, which cannot be: is it a RocketMQ server?", c.remote, n)
	}
	return int(binary.BigEndian.Uint32(b[:])), nil
}

// receive handles one frame and says whether the connection goes on.
func (c *Client) receive(d *Decoder, frame []byte) bool {
	var r Request
	d.Reset()
	if err := d.Decode(frame, &r); err != nil {
		var bad *HeaderError
		if errors.As(err, &bad) && bad.HasOpaque && bad.IsResponse {
			// Its caller gets an answer that says so instead of none.
			r = Request{Opaque: bad.Opaque, Flag: flagResponse, Code: RespSystemError, Remark: []byte(err.Error())}
		} else {
			c.end(fmt.Errorf("remoting: %s: %w", c.remote, err))
			return false
		}
	}
	switch {
	case r.IsResponse():
		c.mu.Lock()
		answer := c.calls[r.Opaque]
		delete(c.calls, r.Opaque)
		c.mu.Unlock()
		if answer != nil {
			answer <- answerOf(&r)
		}
	case c.o.Handler != nil:
		c.o.Handler(c, &r)
	default:
		c.Reply(r.Ticket(), Response{Code: RespRequestCodeNotSupported, Remark: "this client takes no requests"})
	}
	return true
}
