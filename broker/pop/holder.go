package pop

import (
	"slices"

	"github.com/merlinmq/merlin/internal/share"
)

// Holder is what one connection has waiting. The zero value is ready; only
// Waits touch it.
type Holder struct {
	// Guarded by the mutex of the Waits.
	part    share.Part
	waiters map[*waiter]struct{}
	left    bool
}

// admitLocked gives room to somebody who wants to wait.
func (w *Waits) admitLocked(p *waiter) error {
	switch h := p.holder; {
	case w.closing, h.left:
		return ErrFull
	case len(p.line.waiters) >= w.o.MaxLine:
		return ErrLineFull
	case !w.room.Take(&h.part, p.room):
		return ErrFull
	case h.waiters == nil:
		h.waiters = map[*waiter]struct{}{}
	}
	p.holder.waiters[p] = struct{}{}
	w.count.Add(1)
	return nil
}

// releaseLocked gives the room of somebody back who is in no line any more.
func (w *Waits) releaseLocked(p *waiter) {
	delete(p.holder.waiters, p)
	w.room.Give(&p.holder.part, p.room)
	w.count.Add(-1)
}

// Leave forgets those who wait of a connection that is gone, soon.
func (w *Waits) Leave(h *Holder) {
	w.mu.Lock()
	h.left = true
	if len(h.waiters) > 0 {
		w.leaving = append(w.leaving, h)
	}
	w.mu.Unlock()
	w.signal()
}

// dropLeavingLocked takes those out of their lines whose connections are gone.
func (w *Waits) dropLeavingLocked() {
	for _, h := range w.leaving {
		lines := map[*line]struct{}{}
		for p := range h.waiters {
			lines[p.line] = struct{}{}
			w.alarms.Remove(p.alarm.place)
			w.releaseLocked(p)
		}
		for l := range lines {
			l.waiters = slices.DeleteFunc(l.waiters, func(p *waiter) bool { return p.holder == h })
			w.dropLineLocked(l)
		}
	}
	w.leaving = nil
}
