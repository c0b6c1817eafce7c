package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
)

// Null is a server that answers every frame like a stored message and stores
// nothing: what it reaches is the ceiling of a machine and of the load.
type Null struct {
	listener net.Listener
	answered atomic.Int64
	ended    sync.WaitGroup

	mu    sync.Mutex // guards conns and shut
	conns map[net.Conn]struct{}
	shut  bool
}

// ListenNull starts a Null on an address. Port 0 picks a free one.
func ListenNull(addr string) (*Null, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("bench: cannot listen on %s: %w", addr, err)
	}
	n := &Null{listener: l, conns: map[net.Conn]struct{}{}}
	n.ended.Go(n.accept)
	return n, nil
}

// Addr returns the address that the server listens on.
func (n *Null) Addr() string { return n.listener.Addr().String() }

// Answered returns how many requests were answered.
func (n *Null) Answered() int64 { return n.answered.Load() }

// Close stops the server and waits for its connections to end.
func (n *Null) Close() error {
	n.mu.Lock()
	n.shut = true
	for c := range n.conns {
		c.Close()
	}
	n.mu.Unlock()
	err := n.listener.Close()
	n.ended.Wait()
	return err
}

// Run serves until ctx ends.
func (n *Null) Run(ctx context.Context) error {
	<-ctx.Done()
	return n.Close()
}

func (n *Null) accept() {
	for {
		conn, err := n.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		n.mu.Lock()
		if n.shut {
			n.mu.Unlock()
			conn.Close()
			return
		}
		n.conns[conn] = struct{}{}
		n.mu.Unlock()
		n.ended.Go(func() {
			n.serve(conn)
			conn.Close()
			n.mu.Lock()
			delete(n.conns, conn)
			n.mu.Unlock()
		})
	}
}

// serve answers all whole frames of one read in one write. It ends with the
// connection, or with a frame that cannot be read.
func (n *Null) serve(conn net.Conn) {
	in := make([]byte, 256<<10)
	var out []byte
	var a answer // requests have the same shape
	for have := 0; ; {
		k, err := conn.Read(in[have:])
		if err != nil {
			return
		}
		have += k
		pos, count := 0, int64(0)
		out = out[:0]
		for {
			used, err := nextAnswer(in[pos:have], &a)
			if err != nil {
				return
			}
			if used == 0 {
				break
			}
			out = appendNullAnswer(out, a.opaque)
			pos += used
			count++
		}
		if pos == 0 && have == len(in) {
			in = append(in, make([]byte, len(in))...)
		}
		have = copy(in, in[pos:have])
		if count > 0 {
			if _, err := conn.Write(out); err != nil {
				return
			}
			n.answered.Add(count)
		}
	}
}

// nullHead and nullTail are a stored message's answer around its opaque, as
// long as a broker's.
var (
	nullHead = []byte(`{"code":0,"extFields":{"queueId":"0","TRACE_ON":"true","MSG_REGION":"DefaultRegion",` +
		`"msgId":"7F00000100002A9F0000000000000000","queueOffset":"1000000","transactionId":"7F000001000000000000000000000000"},` +
		`"flag":1,"language":"GO","opaque":`)
	nullTail = []byte(`,"serializeTypeCurrentRPC":"JSON","version":` + strconv.Itoa(clientVersion) + `}`)
)

func appendNullAnswer(dst []byte, opaque int32) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = append(dst, nullHead...)
	dst = strconv.AppendInt(dst, int64(opaque), 10)
	dst = append(dst, nullTail...)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	binary.BigEndian.PutUint32(dst[start+4:], uint32(len(dst)-start-8))
	return dst
}
