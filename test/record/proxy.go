package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// recorder keeps the frames of one conversation.
type recorder struct {
	mu     sync.Mutex
	conns  map[string]int // connections get their numbers when they first speak; guarded by mu
	asked  map[string]int // request code by connection, direction and opaque; guarded by mu
	seen   map[string]int // frames kept so far by what they are; guarded by mu
	frames []frame        // guarded by mu
	bad    []string       // guarded by mu
	most   int            // frames kept of one sort
	limit  int            // bytes of the largest frame kept
}

func newRecorder(most, limit int) *recorder {
	return &recorder{conns: map[string]int{}, asked: map[string]int{}, seen: map[string]int{}, most: most, limit: limit}
}

func (r *recorder) add(link, conn, dir string, raw []byte) {
	f, err := decode(raw)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.bad = append(r.bad, fmt.Sprintf("%s %s: %v: %x", link, dir, err, raw))
		return
	}
	if _, ok := r.conns[conn]; !ok {
		r.conns[conn] = len(r.conns) + 1
	}
	f.Link, f.Dir, f.Conn = link, dir, r.conns[conn]
	other := map[string]string{"in": "out", "out": "in"}[dir]
	if f.Kind == "response" {
		f.RequestCode = r.asked[fmt.Sprint(conn, other, f.Opaque)]
	} else {
		r.asked[fmt.Sprint(conn, dir, f.Opaque)] = f.Code
	}
	sort := fmt.Sprint(link, dir, f.Kind, f.Code, f.RequestCode, f.Language)
	if r.seen[sort]++; r.seen[sort] > r.most || len(raw) > r.limit {
		return
	}
	r.frames = append(r.frames, f)
}

// write puts the conversation into a file, one JSON object a line.
func (r *recorder) write(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.bad) > 0 {
		return fmt.Errorf("%s: %d frames could not be read, the first: %s", name, len(r.bad), r.bad[0])
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, f := range r.frames {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return errors.Join(w.Flush(), file.Close())
}

// proxy passes connections on and shows every frame to the recorder that is current when it passes.
type proxy struct {
	link   string
	ln     net.Listener
	target string
	mu     sync.Mutex
	rec    *recorder // guarded by mu; nil: not recorded
}

func newProxy(link, listen, target string) (*proxy, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	p := &proxy{link: link, ln: ln, target: target}
	go p.serve()
	return p, nil
}

func (p *proxy) record(r *recorder) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rec = r
}

func (p *proxy) serve() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return // the listener is closed
		}
		go p.pass(c)
	}
}

func (p *proxy) pass(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer s.Close()
	name := c.RemoteAddr().String()
	done := make(chan struct{}, 2)
	go func() { p.copyFrames(s, c, name, "in"); done <- struct{}{} }()
	go func() { p.copyFrames(c, s, name, "out"); done <- struct{}{} }()
	<-done
}

func (p *proxy) copyFrames(dst io.Writer, src io.Reader, name, dir string) {
	in := bufio.NewReader(src)
	for {
		var length [4]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return
		}
		raw := make([]byte, 4+binary.BigEndian.Uint32(length[:]))
		copy(raw, length[:])
		if _, err := io.ReadFull(in, raw[4:]); err != nil {
			return
		}
		p.mu.Lock()
		rec := p.rec
		p.mu.Unlock()
		if rec != nil {
			rec.add(p.link, p.link+name, dir, raw)
		}
		if _, err := dst.Write(raw); err != nil {
			return
		}
	}
}
