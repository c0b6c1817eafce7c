package commitlog

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
)

// TestFlushAlone: with nobody else about, the caller's goroutine does the fsync,
// and who only looks on is answered by it.
func TestFlushAlone(t *testing.T) {
	f := vfs.NewFaulty(vfs.NewMem())
	l, _ := open(t, f, func(o *Options) { o.Sync = true })
	before := f.Count(vfs.KindSync)
	for i := range 5 {
		end := mustAppend(t, l, batchOf(t, i, 1, 100))
		looked := false
		l.OnceFlushed(end, func(err error) { looked = err == nil })
		begun := false
		alone, err := l.FlushAlone(func() { begun = l.Safe() < end })
		if !alone || err != nil || !begun || l.Safe() < end || !looked {
			t.Fatalf("alone %t, error %v, begun before the fsync %t, safe up to %d of %d, the other was answered %t", alone, err, begun, l.Safe(), end, looked)
		}
	}
	if n := f.Count(vfs.KindSync) - before; n != 5 {
		t.Errorf("%d fsyncs for 5 appends: somebody else flushed, too", n)
	}
}

// TestFlushAloneLeavesItToOthers: while somebody flushes or waits for it, an
// fsync of one's own would only be one more; and those who came while a lone
// appender was at its own are answered by the next.
func TestFlushAloneLeavesItToOthers(t *testing.T) {
	f := vfs.NewFaulty(vfs.NewMem())
	l, _ := open(t, f, func(o *Options) { o.Sync = true })
	gate, started := make(chan struct{}), make(chan struct{}, 10)
	f.Hook(func(op vfs.Op) {
		if op.Kind == vfs.KindSync {
			started <- struct{}{}
			<-gate
		}
	})
	mustAppend(t, l, batchOf(t, 0, 1, 100))
	first := make(chan error, 1)
	go func() {
		alone, err := l.FlushAlone(nil)
		if !alone {
			err = errors.Join(err, errors.New("not alone"))
		}
		first <- err
	}()
	<-started
	end := mustAppend(t, l, batchOf(t, 1, 1, 100))
	if alone, err := l.FlushAlone(func() { t.Error("begun") }); alone || err != nil {
		t.Errorf("alone %t beside a running fsync (error %v)", alone, err)
	}
	second := make(chan error, 1)
	l.WhenSafe(end, func(err error) { second <- err })
	close(gate)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Fatal(err)
	}
	if l.Safe() < end {
		t.Error("answered before it was safe")
	}
}

// TestFlushAloneFails: the failure is sticky, everybody hears of it, and the
// event comes once.
func TestFlushAloneFails(t *testing.T) {
	f := vfs.NewFaulty(vfs.NewMem())
	failed := make(chan error, 2)
	l, _ := open(t, f, func(o *Options) { o.Sync = true; o.Events.Failed = func(err error) { failed <- err } })
	safe := l.Flushed()
	f.FailNth(vfs.KindSync, 1, syscall.EIO)
	end := mustAppend(t, l, batchOf(t, 0, 1, 100))
	looked := make(chan error, 1)
	l.OnceFlushed(end, func(err error) { looked <- err })
	if alone, err := l.FlushAlone(nil); !alone || !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("alone %t, error %v", alone, err)
	}
	if err := <-looked; !errors.Is(err, ErrFailed) {
		t.Error("who looked on got", err)
	}
	if err := <-failed; !errors.Is(err, syscall.EIO) {
		t.Error("the event got", err)
	}
	if alone, _ := l.FlushAlone(nil); alone {
		t.Error("a failed log flushes again")
	}
	if _, err := l.Append(batchOf(t, 0, 1, 10), nil); !errors.Is(err, ErrFailed) {
		t.Error("append:", err)
	}
	if err := l.Close(); !errors.Is(err, ErrFailed) || l.Flushed() != safe || len(failed) != 0 {
		t.Errorf("close: %v; flushed up to %d, was %d; %d more events", err, l.Flushed(), safe, len(failed))
	}
}

// TestFlushAloneAndTogether has appenders of both kinds at once, and a Close in
// their midst; it is for -race.
func TestFlushAloneAndTogether(t *testing.T) {
	l, _ := open(t, vfs.NewMem(), func(o *Options) { o.Sync = true; o.FlushEvery = time.Millisecond })
	var appenders sync.WaitGroup
	var alones atomic.Int32
	for w := range 4 {
		appenders.Go(func() {
			for i := range 200 {
				end, err := l.Append(batchOf(t, w*1000+i, 1, 200), nil)
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				alone := false
				if w%2 == 0 {
					if alone, err = l.FlushAlone(nil); alone {
						alones.Add(1)
					}
				}
				if !alone {
					done := make(chan error, 1)
					l.WhenSafe(end, func(err error) { done <- err })
					err = <-done
				}
				if err == nil && l.Safe() < end {
					t.Error("not safe")
				}
				if err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				if w == 0 && i == 150 {
					if err := l.Close(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	appenders.Wait()
	if alones.Load() == 0 {
		t.Log("no appender was ever alone")
	}
	if l.Flushed() != l.Max() {
		t.Errorf("closed with %d of %d flushed", l.Flushed(), l.Max())
	}
}

// TestOnceFlushedMissesNothing: who comes to look on just when the fsync ends is
// answered all the same, though nobody asks for another one.
func TestOnceFlushedMissesNothing(t *testing.T) {
	l, _ := open(t, vfs.NewMem(), func(o *Options) { o.Sync = true; o.SegmentSize = 64 << 20 })
	b := batchOf(t, 0, 1, 10)
	for i := range 20_000 {
		end := mustAppend(t, l, b)
		looked := make(chan error, 1)
		go l.OnceFlushed(end, func(err error) { looked <- err })
		if alone, err := l.FlushAlone(nil); err != nil || !alone && l.Flushed() < end {
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case err := <-looked:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("append %d is flushed, and who looked on was never told", i)
		}
	}
}
