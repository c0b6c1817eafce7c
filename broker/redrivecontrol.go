package broker

import (
	"cmp"
	"slices"
	"strings"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// view returns a re-drive as it is now.
func (r *redrives) view(j *redriveJob) Redrive {
	r.mu.Lock()
	defer r.mu.Unlock()
	return j.state
}

func (r *redrives) find(id string) (*redriveJob, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if j := r.jobs[id]; j != nil {
		return j, nil
	}
	return nil, refuse(KindNotFound, "no re-drive has the id %q here; 'merlin dlq redrive --list' shows them", id)
}

// Redrives returns the re-drives, newest first; the one with an id if it is
// not "".
func (b *Broker) Redrives(id string) ([]Redrive, error) {
	r := b.redrives
	if id != "" {
		j, err := r.find(id)
		if err != nil {
			return nil, err
		}
		return []Redrive{r.view(j)}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Redrive, 0, len(r.jobs))
	for _, j := range r.jobs {
		list = append(list, j.state)
	}
	slices.SortFunc(list, func(x, y Redrive) int {
		return cmp.Or(cmp.Compare(y.Created, x.Created), strings.Compare(x.ID, y.ID))
	})
	return list, nil
}

// ResumeRedrive lets a re-drive that was stopped or cancelled go on, with
// another rate if that is not negative. One that is at work or done stays what
// it is, but for the rate.
func (b *Broker) ResumeRedrive(id string, rate int) (Redrive, error) {
	r := b.redrives
	r.startMu.Lock() // nothing is forgotten meanwhile
	defer r.startMu.Unlock()
	j, err := r.find(id)
	if err != nil {
		return Redrive{}, err
	}
	s := r.view(j)
	if s.State == RedriveDone || s.State == RedriveRunning && rate < 0 {
		return s, nil
	}
	if s.State == RedriveRunning {
		r.halt(j)
		s = r.view(j)
	} else if err := r.mayStart(&s.RedriveSpec); err != nil {
		return s, err
	}
	if rate >= 0 {
		s.Rate = rate
	}
	if s.State != RedriveDone { // it may have ended meanwhile
		s.State, s.Error = RedriveRunning, ""
	}
	if err := r.put(j, s); err != nil {
		return s, err
	}
	if s.State == RedriveRunning {
		r.launch(j)
	}
	return s, nil
}

// CancelRedrive stops a re-drive; what it has sent stays sent.
func (b *Broker) CancelRedrive(id string) (Redrive, error) {
	r := b.redrives
	r.startMu.Lock() // nothing is forgotten meanwhile
	defer r.startMu.Unlock()
	j, err := r.find(id)
	if err != nil {
		return Redrive{}, err
	}
	r.halt(j)
	s := r.view(j)
	if s.State != RedriveRunning && s.State != RedriveStopped {
		return s, nil
	}
	s.State, s.Waiting = RedriveCancelled, ""
	return s, r.put(j, s)
}

// halt ends the work of a job after the batch that it is at.
func (r *redrives) halt(j *redriveJob) {
	r.mu.Lock()
	cancel, done := j.cancel, j.done
	r.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

// put stores a state and makes it that of the job.
func (r *redrives) put(j *redriveJob, s Redrive) error {
	if err := r.stored.Put([]byte(s.ID), s, kv.Synced); err != nil {
		return fail(KindSystem, err, "storing the re-drive %s", s.ID)
	}
	r.mu.Lock()
	j.state = s
	r.mu.Unlock()
	return nil
}

// runningOf returns how many re-drives of a group are at work, of all with "".
func (r *redrives) runningOf(group string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, j := range r.jobs {
		if j.state.State == RedriveRunning && (group == "" || j.state.Group == group) {
			n++
		}
	}
	return n
}

// needs returns a re-drive at work that has to read dead letters before an
// offset, or "".
func (r *redrives) needs(group string, upto message.Offset) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, j := range r.jobs {
		if j.state.State == RedriveRunning && j.state.Group == group && j.state.Next < upto {
			return id
		}
	}
	return ""
}
