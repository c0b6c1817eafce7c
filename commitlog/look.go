package commitlog

import (
	"fmt"
	"runtime/debug"

	"github.com/merlinmq/merlin/internal/vfs"
)

// A Looker looks at records where they stand.
type Looker interface {
	// Look is given the bytes of span i, which die when it returns: it keeps
	// copies only. It must leave nothing locked should it panic, for a page that
	// cannot be read ends it that way. It returns false to end the walk.
	Look(i int, b []byte) bool
}

// Walk gives the bytes of the spans to the Looker, in order. Bytes that are
// mapped and in memory are given where they stand, without a copy; others are
// read into buf, which is returned for the next walk. n says how many spans were
// given, with the one for which Look returned false. The error is that of span
// n; Look may have seen a part of it.
func (l *Log) Walk(spans []Span, to Looker, buf []byte) (room []byte, n int, err error) {
	w := walk{log: l, spans: spans, to: to}
	defer w.here.done(l)
	defer w.files.done(l)
	for w.n < len(spans) && !w.ended && err == nil {
		err = w.mapped()
		for err == nil && !w.ended && w.n < min(w.cold, len(spans)) {
			buf, err = w.read(buf)
		}
	}
	return buf, w.n, err
}

// walk is one Walk under way.
type walk struct {
	log   *Log
	here  cursor // of what is mapped
	files cursor // of what is read
	spans []Span
	to    Looker
	n     int  // of the spans that were given
	cold  int  // the spans below are to be read
	ended bool //
	sum   byte // keeps the touches of what comes next from being optimised away
}

// mapped gives spans as long as they are mapped and in memory, under one guard.
// It notes in cold how many of the next are not.
func (w *walk) mapped() (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = vfs.FaultOf(r)
		}
	}()
	for touched := w.n; w.n < len(w.spans) && !w.ended; w.n++ {
		b, err := w.window(w.spans[w.n])
		if err != nil {
			return err
		}
		if b == nil {
			w.cold = w.n + 1
			return nil
		}
		if w.n >= touched {
			if touched = w.touch(); w.cold > w.n {
				return nil
			}
		}
		w.ended = !w.to.Look(w.n, b)
	}
	return nil
}

// touchAhead is how many spans are touched together.
const touchAhead = 32

// touch reads a byte from the head and some of the end of the next spans in the
// window, so that the memory fetches what they need together and not one after
// the other. Of spans that may have left the memory it notes in cold those that
// are to be read from the file: a page that has to come from the disk would
// stall its thread. It returns up to which span it came.
func (w *walk) touch() int {
	data, base, size := w.here.w.data, w.here.seg.base, w.here.seg.size
	i, low, high := w.n, size, int64(0)
	for ; i < min(w.n+touchAhead, len(w.spans)); i++ {
		at, n := int64(w.spans[i].Position)-base, int64(w.spans[i].Size)
		if at < 0 || n <= 0 || n > size || at > size-n {
			break
		}
		low, high = min(low, at), max(high, at+n)
	}
	i = max(i, w.n+1)
	if low < high && base+low < w.log.end.Load()-w.log.o.HotWindow && !vfs.Resident(w.here.w.m, low, high-low) {
		w.cold = i
		return i
	}
	for _, s := range w.spans[w.n:i] {
		at, n := int64(s.Position)-base, int64(s.Size)
		if at < 0 || n <= 0 || at >= size || n > size-at {
			break
		}
		d := data[at : at+n]
		w.sum += d[0] + d[n/2] + d[n-1]
		if n > 256 {
			w.sum += d[64] + d[n-96] + d[n-160]
		}
	}
	return i
}

// window returns the bytes of a span in a mapping, nil if its segment has none.
func (w *walk) window(s Span) ([]byte, error) {
	l, c, pos, size := w.log, &w.here, int64(s.Position), int64(s.Size)
	if l.gone.Load() {
		return nil, ErrClosed
	}
	if end := l.end.Load(); pos < 0 || size <= 0 || pos > end || size > end-pos {
		return nil, fmt.Errorf("%w: %d bytes at %d, the log ends at %d", ErrNotFound, size, pos, end)
	}
	if c.seg == nil || pos < c.seg.base || pos >= c.seg.end() {
		c.done(l)
		segs := *l.segs.Load()
		i := find(segs, pos)
		if i < 0 {
			return nil, nil // the read says what is wrong
		}
		m, err := l.windowOf(segs[i])
		if m == nil || err != nil {
			return nil, err
		}
		c.seg, c.w = segs[i], m
	}
	off := pos - c.seg.base
	if size > c.seg.size-off {
		return nil, fmt.Errorf("%w: %d bytes at %d cross the end of %s", ErrNotFound, size, pos, c.seg.name)
	}
	return c.w.data[off : off+size : off+size], nil
}

// read gives a copy of one span.
func (w *walk) read(buf []byte) ([]byte, error) {
	s := w.spans[w.n]
	buf, err := w.log.read(&w.files, int64(s.Position), int(s.Size), buf[:0])
	if err != nil {
		return buf, err
	}
	w.ended = !w.to.Look(w.n, buf)
	w.n++
	return buf, nil
}
