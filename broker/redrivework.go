package broker

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// redriveWork is a re-drive at work. Its order is what makes it exact: a step
// appends messages, makes them durable, and then stores with one synced write
// how far it is, what became of each, and where in the log the next ones may
// stand. After a crash what is not told by that is looked for from there on.
type redriveWork struct {
	r     *redrives
	job   *redriveJob
	state Redrive // as it will be stored next
	to    *redriveTarget
	batch *store.Batch
	sent  map[message.Offset]message.Position // before a crash

	// The step under way.
	results []redriveResult
	next    message.Offset
	due     time.Time // of the next step, with a rate
}

// errNoTarget wraps why a re-drive must stop.
var errNoTarget = errors.New("the target takes no messages")

// run works until the end, an error that stays, or ctx.
func (w *redriveWork) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	wait := func(d time.Duration) bool {
		timer.Reset(d)
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		}
	}
	for {
		err := w.recall()
		if err == nil {
			break
		}
		w.tell(err.Error())
		if !wait(redrivePause) {
			return // nothing was done; the next open looks for it
		}
	}
	for {
		more, err := w.step()
		switch {
		case errors.Is(err, errNoTarget):
			w.state.State, w.state.Error = RedriveStopped, errors.Unwrap(err).Error()
			more = false
		case err != nil:
			w.tell(err.Error())
			w.due = time.Time{}
			if !wait(redrivePause) {
				w.finish(wait)
				return
			}
			continue
		}
		if !more {
			w.finish(wait)
			return
		}
		if ctx.Err() != nil || !w.pace(wait) {
			w.finish(wait)
			return
		}
	}
}

// recall finds out what was sent before a crash and not noted. Nothing is sent
// before that is known.
func (w *redriveWork) recall() (err error) {
	if w.sent, err = w.r.sentLast(&w.state); err != nil {
		return err
	}
	w.r.mu.Lock()
	w.job.state = w.state
	w.r.mu.Unlock()
	return nil
}

// tell makes known why there is no progress.
func (w *redriveWork) tell(why string) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.job.state.Waiting = why
}

// pace waits as the rate says, false if it was interrupted.
func (w *redriveWork) pace(wait func(time.Duration) bool) bool {
	n := 0
	for _, res := range w.results {
		if res.status == resultSent {
			n++
		}
	}
	if w.state.Rate <= 0 || n == 0 {
		return true
	}
	now := w.r.b.now()
	if w.due.IsZero() || now.Sub(w.due) > redriveSlack {
		w.due = now
	}
	w.due = w.due.Add(time.Duration(float64(n) / float64(w.state.Rate) * float64(time.Second)))
	if d := w.due.Sub(now); d > 0 {
		return wait(d)
	}
	return true
}

// finish stores the end of the work: nothing was sent that the state does not
// tell.
func (w *redriveWork) finish(wait func(time.Duration) bool) {
	if w.batch.Len() > 0 {
		return // appended, and neither durable nor stored: the next open looks for it
	}
	w.state.From, w.results = message.NoPosition, nil
	for {
		err := w.store()
		if err == nil {
			return
		}
		w.tell(err.Error())
		if !wait(redrivePause) {
			return
		}
	}
}

// step sends the next messages. After an error it can be called again and goes
// on where it was. more is false at the end.
func (w *redriveWork) step() (more bool, err error) {
	if w.batch.Len() == 0 {
		more, err := w.collect()
		if err != nil {
			return false, err
		}
		if w.batch.Len() > 0 {
			if err := w.append(); err != nil {
				w.batch.Reset() // it is not stored, and made anew
				return false, err
			}
			w.did("append")
		} else if !more {
			w.state.State = RedriveDone
		}
	}
	if w.batch.Len() > 0 {
		if err := w.r.b.store.Sync(); err != nil {
			return false, w.r.b.storeRefusal(err)
		}
		w.did("sync")
	}
	if err := w.take(); err != nil {
		return false, err
	}
	w.did("store")
	return w.state.State == RedriveRunning, nil
}

// size returns how many messages a step sends.
func (w *redriveWork) size() int {
	most := cmp.Or(w.r.b.cfg.redriveBatch, redriveBatch)
	if w.state.Rate <= 0 {
		return most
	}
	return min(max(w.state.Rate/10, 1), most)
}

// did tells tests how far a step is.
func (w *redriveWork) did(what string) {
	if hook := w.r.b.cfg.redriveHook; hook != nil {
		hook(what)
	}
}

// collect fills the batch; more is false when the end was reached.
func (w *redriveWork) collect() (more bool, err error) {
	b, topic := w.r.b, message.DLQTopic(w.state.Group)
	if w.to == nil || w.to.one != "" {
		if w.to, err = b.redriveTarget(&w.state.RedriveSpec); err != nil {
			return false, &stopError{err}
		}
	}
	w.batch.Reset()
	w.results = w.results[:0]
	end, err := w.limit()
	if err != nil {
		return false, err
	}
	w.next = w.state.Next
	if lo := b.store.QueueMin(topic, 0); w.next < lo {
		if end == w.state.End { // else they may have been carried forward
			w.state.Gone += int64(min(lo, end) - w.next)
		}
		w.next, w.state.Next = lo, lo
	}
	var rows [256]store.Entry
	for scanned := 0; w.next < end && scanned < redriveScan && w.room(); {
		n, err := b.store.Entries(topic, 0, w.next, rows[:min(len(rows), int(end-w.next))])
		if errors.Is(err, store.ErrNotFound) && w.next < b.store.QueueMin(topic, 0) {
			return true, nil // trimmed meanwhile: the next step sees
		}
		if err != nil {
			return false, fail(KindSystem, err, "reading the dead letters in %s", topic)
		}
		if n == 0 {
			return false, nil
		}
		for i := 0; i < n && w.room(); i++ {
			if err := w.add(topic, rows[i]); err != nil {
				return false, err
			}
			w.next++
			scanned++
		}
	}
	return w.next < end, nil
}

// limit returns where to stop. Dead letters that were carried forward are
// behind those that there were at the beginning.
func (w *redriveWork) limit() (message.Offset, error) {
	topic := message.DLQTopic(w.state.Group)
	mark, _, err := w.r.b.dead.marks.Get([]byte(topic))
	if err != nil {
		return 0, fail(KindSystem, err, "reading where %s begins", topic)
	}
	if mark.Carried != w.state.Carried {
		return w.r.b.store.QueueMax(topic, 0), nil
	}
	return w.state.End, nil
}

func (w *redriveWork) room() bool {
	return w.batch.Len() < w.size() && w.batch.Size() < redriveBytes
}

// add decides about one dead letter.
func (w *redriveWork) add(topic string, row store.Entry) error {
	d, err := w.r.b.deadAt(topic, w.next, row)
	if err != nil {
		return err
	}
	res := redriveResult{offset: w.next}
	if d.View == nil {
		if w.next < w.state.End && !row.Filler() {
			w.note(res, resultGone, "")
		}
		return nil
	}
	res.offset = d.ident
	if d.offset >= w.state.End {
		if d.ident >= w.state.End || d.ident < w.state.First || d.ident == d.offset {
			return nil // it died after the beginning
		}
		if _, done, err := w.r.results.Get(resultKey(w.state.ID, d.ident)); err != nil || done {
			return err
		}
	}
	if !w.state.Filter.matches(&d) {
		w.note(res, resultSkipped, "")
		return nil
	}
	if pos, before := w.sent[d.ident]; before {
		res.position = pos
		w.note(res, resultSent, "")
		return nil
	}
	m, err := w.to.redriven(&d)
	if err == nil {
		res.item = w.batch.Len() + 1
		err = w.r.b.illegal(w.batch.Add(&m))
	}
	if err != nil {
		res.item = 0
		w.note(res, resultFailed, err.Error())
		return nil
	}
	w.note(res, resultSent, "")
	return nil
}

func (w *redriveWork) note(res redriveResult, status byte, text string) {
	res.status, res.text = status, text
	w.results = append(w.results, res)
}

// append stores the batch. What it may leave behind in a crash stands at From
// or behind it.
func (w *redriveWork) append() error {
	b := w.r.b
	if b.cfg.Permission.Load()&PermWrite == 0 {
		return refuse(KindNoPermission, "the broker[%s] sending message is forbidden", b.cfg.Name)
	}
	if err := b.mayStore(); err != nil {
		return w.settle(err)
	}
	if w.state.From == message.NoPosition {
		w.state.From = b.store.Max()
		if err := w.r.put(w.job, w.state); err != nil {
			w.state.From = message.NoPosition
			return err
		}
		w.did("mark")
	}
	err := b.store.Append(w.batch)
	if errors.Is(err, store.ErrNoSpace) {
		return w.settle(b.noSpace(err))
	}
	return b.storeRefusal(err)
}

// settle stores that nothing is under way while the work cannot go on, and
// returns why it cannot.
func (w *redriveWork) settle(why error) error {
	if w.state.From != message.NoPosition {
		w.state.From = message.NoPosition
		if err := w.r.put(w.job, w.state); err != nil {
			return errors.Join(why, err)
		}
	}
	return why
}

// take stores what a step did.
func (w *redriveWork) take() error {
	before := w.state
	for i := range w.results {
		res := &w.results[i]
		if res.item > 0 {
			res.position = w.batch.Result(res.item - 1).Position
		}
		switch res.status {
		case resultSent:
			w.state.Sent++
		case resultSkipped:
			w.state.Skipped++
		case resultFailed:
			w.state.Failed++
		case resultGone:
			w.state.Gone++
		}
	}
	sent := w.state.Sent - before.Sent
	w.state.Next = w.next
	if w.state.State == RedriveDone {
		w.state.From = message.NoPosition
	} else if w.state.From != message.NoPosition {
		w.state.From = w.r.b.store.Max()
	}
	if err := w.store(); err != nil {
		w.state = before
		return err
	}
	w.batch.Reset()
	w.r.mu.Lock()
	w.r.sent[w.state.Group] += sent
	w.r.mu.Unlock()
	return nil
}

// store stores the state and the results of the step, together.
func (w *redriveWork) store() error {
	s := w.state
	s.Updated, s.Waiting = w.r.b.now().UnixMilli(), ""
	var batch kv.Batch
	if err := w.r.stored.PutTo(&batch, []byte(s.ID), s); err != nil {
		return fail(KindSystem, err, "storing the re-drive %s", s.ID)
	}
	for i := range w.results {
		if res := &w.results[i]; res.status != resultSkipped {
			if err := w.r.results.PutTo(&batch, resultKey(s.ID, res.offset), res.encode()); err != nil {
				return fail(KindSystem, err, "storing the results of the re-drive %s", s.ID)
			}
		}
	}
	if err := w.r.db.Write(&batch, kv.Synced); err != nil {
		return fail(KindSystem, err, "storing the re-drive %s", s.ID)
	}
	w.r.mu.Lock()
	w.job.state = s
	w.r.mu.Unlock()
	return nil
}

// stopError stops a re-drive.
type stopError struct{ why error }

func (e *stopError) Error() string        { return e.why.Error() }
func (e *stopError) Unwrap() error        { return e.why }
func (e *stopError) Is(target error) bool { return target == errNoTarget }
