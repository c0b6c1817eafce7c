package broker

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// redriveResult is what became of one dead letter.
type redriveResult struct {
	offset   message.Offset
	status   byte
	position message.Position // of the message that was sent
	text     string           // why it was not
	item     int              // of the batch, from 1; 0: none
}

const (
	resultSent    = 'S'
	resultSkipped = '-' // is not stored
	resultFailed  = 'F'
	resultGone    = 'G'
)

var resultWords = map[byte]string{resultSent: "sent", resultFailed: "failed", resultGone: "gone"}

// maxResultText bounds what is stored of an error.
const maxResultText = 300

func (r *redriveResult) encode() []byte {
	if r.status == resultSent {
		return binary.BigEndian.AppendUint64([]byte{r.status}, uint64(r.position))
	}
	return append([]byte{r.status}, r.text[:min(len(r.text), maxResultText)]...)
}

func decodeResult(off message.Offset, b []byte) redriveResult {
	r := redriveResult{offset: off, position: message.NoPosition}
	if len(b) == 0 {
		return r
	}
	r.status = b[0]
	if r.status == resultSent && len(b) == 9 {
		r.position = message.Position(binary.BigEndian.Uint64(b[1:]))
	} else {
		r.text = string(b[1:])
	}
	return r
}

// resultKey is the id of the re-drive, a zero, and the offset in 8 bytes.
func resultKey(id string, off message.Offset) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(id), 0), uint64(off))
}

// RedriveResult is what became of one dead letter in a re-drive.
type RedriveResult struct {
	Offset    message.Offset `json:"offset"` // of the dead letter
	Status    string         `json:"status"` // sent, failed or gone
	UniqueKey string         `json:"unique_key,omitempty"`
	Keys      string         `json:"keys,omitempty"`
	Topic     string         `json:"topic,omitempty"` // where it was sent
	Queue     int32          `json:"queue"`
	NewOffset message.Offset `json:"new_offset"`
	ID        string         `json:"id,omitempty"` // offset id of the message that was sent
	Error     string         `json:"error,omitempty"`
}

// RedriveResults is a page of results by offset.
type RedriveResults struct {
	Results []RedriveResult `json:"results"`
	Next    message.Offset  `json:"next"` // where the next page begins
	More    bool            `json:"more"`
}

// RedriveResults returns what became of the dead letters of a re-drive so far,
// from an offset on. Those that did not match are left out.
func (b *Broker) RedriveResults(id string, from message.Offset, limit int) (RedriveResults, error) {
	r := b.redrives
	j, err := r.find(id)
	if err != nil {
		return RedriveResults{}, err
	}
	group := r.view(j).Group
	page := RedriveResults{Results: []RedriveResult{}, Next: from}
	limit = min(cmp.Or(max(limit, 0), deadPageMax), deadPageMax)
	prefix := len(id) + 1
	err = r.results.Range(resultKey(id, max(from, 0)), append([]byte(id), 1), func(key, value []byte) bool {
		if len(page.Results) == limit {
			page.More = true
			return false
		}
		off := message.Offset(binary.BigEndian.Uint64(key[prefix:]))
		page.Results = append(page.Results, b.redriveResult(group, decodeResult(off, value)))
		page.Next = off + 1
		return true
	})
	if err != nil {
		return page, fail(KindSystem, err, "reading the results of the re-drive %s", id)
	}
	return page, nil
}

// redriveResult adds what the records tell, as long as they are there.
func (b *Broker) redriveResult(group string, res redriveResult) RedriveResult {
	out := RedriveResult{Offset: res.offset, Status: resultWords[res.status], Queue: -1, NewOffset: message.NoOffset, Error: res.text}
	var v message.View
	var err error
	if res.status == resultSent {
		v, err = b.store.Record(res.position)
	} else {
		v, err = b.store.RecordAt(message.DLQTopic(group), 0, res.offset)
	}
	if err != nil {
		return out // deleted since, and known by its offset alone
	}
	out.UniqueKey, out.Keys = v.Properties().Value(message.PropUniqueKey), v.Properties().Value(message.PropKeys)
	if res.status == resultSent {
		out.Topic, out.Queue, out.NewOffset, out.ID = string(v.Topic()), v.QueueID(), v.QueueOffset(), v.OffsetID()
	}
	return out
}

// sentLast finds the messages that a re-drive has sent and not told: at most
// one step, at From or behind it.
func (r *redrives) sentLast(s *Redrive) (map[message.Offset]message.Position, error) {
	if s.From == message.NoPosition {
		return nil, nil
	}
	// What is found must not be lost any more.
	if err := r.b.store.Sync(); err != nil {
		return nil, r.b.storeRefusal(err)
	}
	topics, err := r.lastTopics(s)
	if err != nil {
		return nil, err
	}
	found := map[message.Offset]message.Position{}
	for topic := range topics {
		for _, queue := range r.b.store.Queues(topic) {
			if err := r.findSent(s, topic, queue, found); err != nil {
				return nil, err
			}
		}
	}
	// A power cut may have taken the end of the log: what is sent next stands
	// at its end of now.
	if end := r.b.store.Max(); end < s.From {
		s.From = end
		if err := r.stored.Put([]byte(s.ID), *s, kv.Synced); err != nil {
			return nil, fail(KindSystem, err, "storing the re-drive %s", s.ID)
		}
	}
	return found, nil
}

// lastTopics returns where the messages of one step behind Next may be.
func (r *redrives) lastTopics(s *Redrive) (map[string]bool, error) {
	switch s.To {
	case RedriveRetry:
		return map[string]bool{message.RetryTopic(s.Group): true}, nil
	case RedriveTopic:
		return map[string]bool{s.Topic: true}, nil
	}
	topics := map[string]bool{}
	dead := message.DLQTopic(s.Group)
	from := max(s.Next, r.b.store.QueueMin(dead, 0))
	err := r.b.eachDead(dead, from, min(from+redriveScan+256, r.b.store.QueueMax(dead, 0)), func(d *deadView) bool {
		topics[d.topic] = true
		return true
	})
	delete(topics, "")
	return topics, err
}

// findSent goes back through a queue to From.
func (r *redrives) findSent(s *Redrive, topic string, queue int32, found map[message.Offset]message.Position) error {
	st := r.b.store
	var rows [256]store.Entry
	for end := st.QueueMax(topic, queue); end > st.QueueMin(topic, queue); {
		start := max(end-message.Offset(len(rows)), st.QueueMin(topic, queue))
		if start >= end {
			return nil // trimmed meanwhile
		}
		n, err := st.Entries(topic, queue, start, rows[:end-start])
		if errors.Is(err, store.ErrNotFound) && start < st.QueueMin(topic, queue) {
			continue // trimmed meanwhile: what is left of it is looked at
		}
		if err != nil {
			return fail(KindSystem, err, "looking for what the re-drive %s sent to %s queue %d", s.ID, topic, queue)
		}
		for _, row := range rows[:n] {
			if row.Filler() || row.Position < s.From {
				continue
			}
			v, err := st.Record(row.Position)
			var corrupt *store.CorruptError
			if errors.Is(err, store.ErrNotFound) || errors.As(err, &corrupt) {
				continue
			}
			// What cannot be read now may have been sent: to go on would be to
			// send it twice.
			if err != nil {
				return fail(KindSystem, err, "looking for what the re-drive %s sent to %s queue %d", s.ID, topic, queue)
			}
			if v.Properties().Value(PropRedrive) != s.ID {
				continue
			}
			if off, err := strconv.ParseInt(v.Properties().Value(PropRedriveOffset), 10, 64); err == nil {
				found[message.Offset(off)] = row.Position
			}
		}
		if n > 0 && !rows[0].Filler() && rows[0].Position < s.From {
			return nil
		}
		end = start
	}
	return nil
}

// forgetOld makes room for another re-drive. startMu is held.
func (r *redrives) forgetOld() error {
	r.mu.Lock()
	var done, halted []Redrive
	for _, j := range r.jobs {
		switch j.state.State {
		case RedriveDone:
			done = append(done, j.state)
		case RedriveStopped, RedriveCancelled:
			halted = append(halted, j.state)
		}
	}
	r.mu.Unlock()
	for _, over := range [][]Redrive{done, halted} {
		slices.SortFunc(over, func(x, y Redrive) int { return cmp.Compare(y.Updated, x.Updated) })
	}
	for i := keptResults - 1; i < len(done); i++ {
		if err := r.forgetResults(done[i].ID); err != nil {
			return err
		}
	}
	for _, s := range slices.Concat(done[min(len(done), keptRedrives):], halted[min(len(halted), keptHalted):]) {
		if err := r.forget(s.ID); err != nil {
			return err
		}
	}
	return nil
}

// forget removes a re-drive with its results: those first, so that a crash
// leaves none that belong to nothing.
func (r *redrives) forget(id string) error {
	if err := r.forgetResults(id); err != nil {
		return err
	}
	if err := r.stored.Delete([]byte(id), kv.Synced); err != nil {
		return fail(KindSystem, err, "removing the old re-drive %s", id)
	}
	r.mu.Lock()
	delete(r.jobs, id)
	r.mu.Unlock()
	return nil
}

func (r *redrives) forgetResults(id string) (err error) {
	var batch kv.Batch
	rangeErr := r.results.Range(resultKey(id, 0), append([]byte(id), 1), func(key, _ []byte) bool {
		r.results.DeleteTo(&batch, key)
		if batch.Len() == flushBatch {
			err = r.db.Write(&batch, kv.Buffered)
			batch.Reset()
		}
		return err == nil
	})
	if err = errors.Join(err, rangeErr); err == nil && batch.Len() > 0 {
		err = r.db.Write(&batch, kv.Buffered)
	}
	if err != nil {
		return fail(KindSystem, err, "removing the results of the old re-drive %s", id)
	}
	return nil
}

// forgetTopic ends the re-drives of a dead-letter queue that is deleted: its
// offsets begin anew.
func (r *redrives) forgetTopic(topic string) error {
	r.startMu.Lock()
	defer r.startMu.Unlock()
	r.mu.Lock()
	var jobs []*redriveJob
	for _, j := range r.jobs {
		if message.DLQTopic(j.state.Group) == topic && j.state.State != RedriveDone {
			jobs = append(jobs, j)
		}
	}
	r.mu.Unlock()
	for _, j := range jobs {
		r.halt(j)
		s := r.view(j)
		if s.State == RedriveDone {
			continue
		}
		s.State, s.From, s.Error, s.Waiting = RedriveDone, message.NoPosition, "the dead-letter queue was deleted", ""
		if err := r.put(j, s); err != nil {
			return err
		}
	}
	return nil
}

// RedrivePlan says what a re-drive would do with the dead letters that were
// looked at.
type RedrivePlan struct {
	Next     message.Offset   `json:"next"` // where to go on
	End      message.Offset   `json:"end"`
	More     bool             `json:"more"`
	Scanned  int64            `json:"scanned"`
	Matched  int64            `json:"matched"`
	Topics   map[string]int64 `json:"topics"`             // where they would go
	Problems map[string]int64 `json:"problems,omitempty"` // why some could not be sent
}

// planScan bounds the dead letters that one call looks at.
const planScan = 20_000

// PlanRedrive says what a re-drive would do, from an offset on, and sends
// nothing. A retry topic that it would need is made.
func (b *Broker) PlanRedrive(spec RedriveSpec, from message.Offset) (RedrivePlan, error) {
	spec.To = cmp.Or(spec.To, RedriveOriginal)
	if err := errors.Join(checkRedrive(&spec), b.hasDead(spec.Group)); err != nil {
		return RedrivePlan{}, firstRefusal(err)
	}
	to, err := b.redriveTarget(&spec)
	if err != nil {
		return RedrivePlan{}, err
	}
	topic := message.DLQTopic(spec.Group)
	from = max(from, b.store.QueueMin(topic, 0))
	p := RedrivePlan{End: b.store.QueueMax(topic, 0), Topics: map[string]int64{}, Problems: map[string]int64{}}
	p.Next = min(from+planScan, max(p.End, from))
	err = b.eachDead(topic, from, p.Next, func(d *deadView) bool {
		p.Scanned++
		if !spec.Filter.matches(d) {
			return true
		}
		p.Matched++
		if name, _, err := to.place(d); err == nil {
			p.Topics[name]++
		} else if text := err.Error(); p.Problems[text] > 0 || len(p.Problems) < 100 {
			p.Problems[text]++
		}
		return true
	})
	p.More = p.Next < p.End
	return p, err
}

func firstRefusal(err error) error {
	var refusal *Error
	if errors.As(err, &refusal) {
		return refusal
	}
	return err
}
