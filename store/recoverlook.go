package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/message"
)

// look reads the small files, and decides whether our mark may be believed.
func (r *recovery) look(lockTime int64) (err error) {
	s := r.s
	if r.abort, r.ours, err = s.readAbort(); err != nil {
		return err
	}
	if r.mark, r.hasMark, err = s.readMark(); err != nil {
		return err
	}
	data, err := readSmall(s.o.FS, s.path(checkpointFile), checkpointSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.apache = decodeCheckpoint(data)
	r.found.Clean = !r.abort
	switch {
	case !r.hasMark:
	case r.abort:
		r.found.Exact = r.ours
	default:
		r.found.Exact = r.mark.clean && r.mark.lockTime == lockTime && len(data) >= 48 &&
			crc32.Checksum(data[:48], castagnoli) == r.mark.checkpoint
	}
	return nil
}

// check refuses a folder in which files of the log are missing. Nothing has
// been changed in it so far.
func (r *recovery) check() error {
	s := r.s
	if s.o.AcceptLoss {
		return nil
	}
	segs := s.log.Segments()
	end := message.Position(0)
	if n := len(segs); n > 0 {
		end = segs[n-1].Base + message.Position(segs[n-1].Size)
	}
	const advice = "put it back, or start with --accept-loss to go on with what is left"
	if r.found.Exact && r.mark.flushed > end {
		name := fmt.Sprintf("%020d", int64(end))
		return fmt.Errorf("%w: the log reached position %d, but the file %s is not there; %s", ErrMissing, r.mark.flushed, s.path(logFolder)+"/"+name, advice)
	}
	if len(segs) == 0 && !(r.found.Exact && r.mark.flushed == 0) {
		if err := r.checkNoQueues(); err != nil {
			return err
		}
	}
	if r.found.Exact && r.mark.begins && len(segs) > 0 && segs[0].Base > r.mark.logMin {
		return fmt.Errorf("%w: the log begins at position %d, but the file %s/%020d is not there; %s",
			ErrMissing, r.mark.logMin, s.path(logFolder), int64(r.mark.logMin), advice)
	}
	for i := 1; i < len(segs); i++ {
		prev := segs[i-1].Base + message.Position(segs[i-1].Size)
		// A power cut can take a file that nothing durable was in.
		if segs[i].Base != prev && !(r.found.Exact && prev >= r.mark.flushed) {
			return fmt.Errorf("%w: the file %s/%020d is not there; %s", ErrMissing, s.path(logFolder), int64(prev), advice)
		}
	}
	return nil
}

// checkNoQueues refuses queues with messages where there is no log.
func (r *recovery) checkNoQueues() error {
	s := r.s
	t, err := consumequeue.Open(s.path(queueFolder), consumequeue.Options{FS: s.o.FS, FileEntries: s.o.QueueFileEntries, ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for q := range t.All() {
		if err == nil && q.Max() > 0 {
			err = fmt.Errorf("%w: %s has no file, but the queues in %s have messages (%s has %d); put the log's files back, or remove both folders to begin anew",
				ErrMissing, s.path(logFolder), s.path(queueFolder), q.Topic(), q.Max())
		}
	}
	return errors.Join(err, t.Close())
}

// begin leaves the sign that the folder is in use, before anything is changed.
// A mark that is not believed goes first: it must not be taken for ours later.
func (r *recovery) begin() error {
	if !r.found.Exact {
		if err := r.s.removeMark(); err != nil {
			return err
		}
	}
	if r.abort && r.ours {
		return nil
	}
	return r.s.writeAbort()
}
