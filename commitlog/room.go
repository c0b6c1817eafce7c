package commitlog

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// room makes disk space ahead of the end of the log: it reserves the current
// segment in steps of Options.AllocateAhead and creates the next segment before
// it is needed, so that a roll does not stall the append lock.
type room struct {
	wake chan struct{} // holds one token when there may be something to do
	quit chan struct{}
	done chan struct{}
	made atomic.Int32 // how many segments are ahead

	// mu is held while files are made and reserved; it guards the fields below.
	mu       sync.Mutex
	ahead    []*segment // made but not yet in the log's list, in order; mostly one
	err      error      // of the goroutine, other than a full disk; told by Close
	resting  bool       // the disk was full: the goroutine waits until restEnds
	restEnds time.Time
}

func (r *room) init() {
	r.wake, r.quit, r.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
}

func (r *room) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *room) stop() error {
	close(r.quit)
	<-r.done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// segment returns the n-th segment behind last, which is the newest in the
// list, creating what is missing.
func (r *room) segment(l *Log, last *segment, n int) (*segment, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.segmentLocked(l, last.end(), n)
}

func (r *room) segmentLocked(l *Log, base int64, n int) (*segment, error) {
	for len(r.ahead) <= n {
		s := newSegment(l.o.FS, l.dir, base+int64(len(r.ahead))*l.o.SegmentSize, l.o.SegmentSize)
		if err := s.create(); err != nil {
			return nil, err
		}
		r.ahead = append(r.ahead, s)
		r.made.Store(int32(len(r.ahead)))
	}
	return r.ahead[n], nil
}

// reserve makes sure that s has room below byte to, taking more if it can.
func (r *room) reserve(l *Log, s *segment, to int64) error {
	if to <= s.allocated.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reserveLocked(l, s, to)
}

func (r *room) reserveLocked(l *Log, s *segment, to int64) error {
	err := s.reserve(min(s.size, max(to, s.allocated.Load()+l.o.AllocateAhead)))
	if errors.Is(err, ErrNoSpace) { // the step does not fit; this append may
		err = s.reserve(to)
	}
	return err
}

// take hands over the first n segments made ahead. publish puts them into the
// list before the goroutine can look at it again and make them twice.
func (r *room) take(n int, publish func(made []*segment)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	publish(r.ahead[:n:n])
	r.ahead = append([]*segment(nil), r.ahead[n:]...)
	r.made.Store(int32(len(r.ahead)))
}

// roomMaker is the goroutine that makes room ahead. A full disk is not its
// matter: the append that needs the room finds out itself and says so.
func (l *Log) roomMaker() {
	defer close(l.room.done)
	for {
		select {
		case <-l.room.quit:
			return
		case <-l.room.wake:
		}
		segs := *l.segs.Load()
		if len(segs) == 0 {
			continue
		}
		l.room.makeAhead(l, segs[len(segs)-1])
	}
}

// wantsRoom tells what the goroutine has to do when the log ends at end, in last.
func (l *Log) wantsRoom(last *segment, end int64) (reserve, create bool) {
	used := end - last.base
	have := last.allocated.Load()
	return have < last.size && have-used < l.o.AllocateAhead/2, used >= last.size/2 && l.room.made.Load() == 0
}

func (r *room) makeAhead(l *Log, last *segment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := l.o.Now()
	if r.resting && now.Before(r.restEnds) {
		return
	}
	r.resting = false
	// Under r.mu the newest segment may be another by now; then its own kick follows.
	if segs := *l.segs.Load(); segs[len(segs)-1] != last {
		r.kick()
		return
	}
	reserve, create := l.wantsRoom(last, l.end.Load())
	var err error
	if reserve {
		err = last.reserve(min(last.size, last.allocated.Load()+l.o.AllocateAhead))
	}
	if create && err == nil {
		var next *segment
		if next, err = r.segmentLocked(l, last.end(), 0); err == nil {
			err = next.reserve(l.o.AllocateAhead)
		}
		if err == nil {
			if err = l.o.FS.SyncDir(l.dir); err == nil {
				next.named.Store(true)
			}
		}
	}
	r.err = nil
	if err != nil {
		r.resting, r.restEnds = true, now.Add(time.Second)
		if !errors.Is(err, ErrNoSpace) {
			r.err = err
		}
	}
}

// removeAhead deletes the segments that were made and not used.
func (r *room) removeAhead(l *Log) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ahead) == 0 {
		return nil
	}
	var err error
	for _, s := range r.ahead {
		err = errors.Join(err, s.remove())
	}
	r.ahead = nil
	return errors.Join(err, l.o.FS.SyncDir(l.dir))
}
