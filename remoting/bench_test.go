package remoting

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

const sendHeader = `{"code":310,"extFields":{"a":"producers","b":"orders","c":"TBW102","d":"8","e":"3","f":"0","g":"1700000000000","h":"0","i":"KEYS\u0001order-1\u0002UNIQ_KEY\u0001AC110001000118B4AAC21F8E3F9A0000\u0002WAIT\u0001true\u0002TAGS\u0001paid","j":"0","k":"false","m":"false","n":"broker-a"},"flag":0,"language":"JAVA","opaque":12345,"serializeTypeCurrentRPC":"JSON","version":513}`

func BenchmarkDecodeJSON(b *testing.B) {
	frame := jsonFrame(sendHeader, string(make([]byte, 1024)))[4:]
	work := bytes.Clone(frame)
	opaque, key := bytes.Index(frame, []byte("12345")), bytes.Index(frame, []byte("0000"))
	var d Decoder
	var r Request
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for n := 0; b.Loop(); n++ {
		copy(work, frame[:len(sendHeader)+4]) // decoding unescapes in place
		work[opaque], work[key] = byte('1'+n&7), byte('0'+n&7)
		d.Reset()
		if err := d.Decode(work, &r); err != nil || len(r.Fields) != 13 {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeBinary(b *testing.B) {
	var h header
	h.reset(EncodingBinary, 310, 1, 0)
	for _, k := range "abcdefghijklm" {
		h.str(string(k), "value")
	}
	frame, _ := h.appendFrame(nil, make([]byte, 1024))
	var d Decoder
	var r Request
	b.ReportAllocs()
	for b.Loop() {
		d.Reset()
		if err := d.Decode(frame[4:], &r); err != nil || len(r.Fields) != 13 {
			b.Fatal(err)
		}
	}
}

func sendAnswer(c *Conn, r *Request) {
	c.Reply(r, RespSuccess).
		Str("msgId", "AC11000100002A9F0000000000012345").Int("queueId", 3).Int("queueOffset", 123456).
		Str("MSG_REGION", "DefaultRegion").Str("TRACE_ON", "true").End()
}

// nowhere is a socket that takes everything.
type nowhere struct{}

func (nowhere) write([]byte) error { return nil }
func (nowhere) abort()             {}
func (nowhere) pending() int       { return 0 }
func (nowhere) brake(bool) bool    { return false }

func connToNowhere(tb testing.TB, h Handler) *Conn {
	s := listen(tb, h, ServerOptions{Transport: TransportNet})
	c := &Conn{server: s, sock: nowhere{}}
	c.drained.L = &c.mu
	return c
}

func BenchmarkEncodeAnswer(b *testing.B) {
	for _, encoding := range []byte{EncodingJSON, EncodingBinary} {
		b.Run(fmt.Sprint(encoding), func(b *testing.B) {
			c := connToNowhere(b, handler{})
			r := Request{Opaque: 77, Encoding: encoding}
			b.ReportAllocs()
			for b.Loop() {
				sendAnswer(c, &r)
			}
		})
	}
}

// The whole way of one read with 16 sends, without the socket: no allocation.
func BenchmarkFeed(b *testing.B) {
	c := connToNowhere(b, handler{serve: func(c *Conn, frames []Request) {
		for i := range frames {
			sendAnswer(c, &frames[i])
		}
	}})
	one := jsonFrame(sendHeader, string(make([]byte, 1024)))
	all := bytes.Repeat(one, 16)
	work := bytes.Clone(all)
	b.ReportAllocs()
	b.SetBytes(int64(len(all)))
	for b.Loop() {
		copy(work, all)
		if !c.feed(work) {
			b.Fatal("ended")
		}
	}
}

func TestNothingIsAllocatedPerFrame(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates and empties pools")
	}
	c := connToNowhere(t, handler{serve: func(c *Conn, frames []Request) {
		for i := range frames {
			sendAnswer(c, &frames[i])
		}
	}})
	all := bytes.Repeat(jsonFrame(sendHeader, string(make([]byte, 1024))), 16)
	work := bytes.Clone(all)
	n := testing.AllocsPerRun(2000, func() {
		copy(work, all)
		c.feed(work)
	})
	if n >= 1 { // for 16 frames
		t.Errorf("%v allocations for a read of 16 sends", n)
	}
	late := testing.AllocsPerRun(2000, func() {
		c.unsent.Store(0)
		c.queue, c.draining = c.queue[:0], true // nobody drains: only the encoding is measured
		c.Later(Ticket{Opaque: 1}, 0).Str("k", "v").Int("n", 5).End()
	})
	if late >= 1 {
		t.Errorf("%v allocations for a late answer", late)
	}
	c.server.counters.output.Store(0)
}

// BenchmarkEcho is a null server under 8 connections with 16 sends of 1 KB in
// flight each; one operation is one send.
func BenchmarkEcho(b *testing.B) {
	for _, tr := range []string{defaultTransport, TransportNet} {
		b.Run(tr, func(b *testing.B) {
			s := listen(b, handler{serve: func(c *Conn, frames []Request) {
				for i := range frames {
					sendAnswer(c, &frames[i])
				}
			}}, ServerOptions{Transport: tr})
			one := jsonFrame(sendHeader, string(make([]byte, 1024)))
			c := connToNowhere(b, handler{})
			sendAnswer(c, &Request{Opaque: 12345})
			answer := len(c.out)
			const conns, flight = 8, 16
			done := make(chan error, conns)
			b.ReportAllocs()
			b.ResetTimer()
			for range conns {
				go func() { done <- load(s, one, answer, flight, b.N/conns+1) }()
			}
			for range conns {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// load keeps flight requests under way: for each whole answer that a read
// brings it sends another.
func load(s *Server, frame []byte, answer, flight, total int) error {
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	many := bytes.Repeat(frame, flight)
	sent := min(flight, total)
	if _, err := c.Write(many[:sent*len(frame)]); err != nil {
		return err
	}
	in := make([]byte, 64<<10)
	for got, rest := 0, 0; got < total; {
		n, err := c.Read(in)
		if err != nil && err != io.EOF {
			return err
		}
		rest += n
		k := rest / answer
		rest -= k * answer
		got += k
		if k = min(k, total-sent); k > 0 {
			sent += k
			if _, err := c.Write(many[:k*len(frame)]); err != nil {
				return err
			}
		}
	}
	return nil
}
