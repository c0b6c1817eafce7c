package broker

import (
	"sync"
	"time"

	"github.com/merlinmq/merlin/message"
)

// PullRange is a piece of a queue that one client was given, in pulls that
// followed on one another.
type PullRange struct {
	Client string         `json:"client"`
	From   message.Offset `json:"from"`
	To     message.Offset `json:"to"`    // behind the last message
	First  time.Time      `json:"first"` // of the pulls
	Last   time.Time      `json:"last"`
}

// LastPull is what is known of the pulls of a group from a queue.
type LastPull struct {
	Client  string         `json:"client"`
	Since   time.Time      `json:"since"` // its first pull since another client pulled, or the broker began
	At      time.Time      `json:"at"`
	Offset  message.Offset `json:"offset"` // that was asked for
	Given   message.Offset `json:"given"`  // behind the last message given; -1 if none was
	GivenAt time.Time      `json:"given_at,omitzero"`
	Commit  message.Offset `json:"commit"` // the highest one seen; -1 if none was
	// CommitAt is when the commits last went forward.
	CommitAt time.Time `json:"commit_at,omitzero"`
}

// pullLog remembers who pulled what, a few ranges of each group and queue. It
// is written once a pull, not once a message. Safe for concurrent use; the zero
// value is ready.
type pullLog struct {
	mu     sync.RWMutex // guards the map, not its values
	tracks map[pullKey]*pullTrack
}

type pullKey struct {
	group, topic string
	queue        int32
}

type pullTrack struct {
	mu     sync.Mutex // guards what follows
	last   LastPull
	ranges []PullRange // oldest first
}

// The bounds of a pullLog: 20,000 queues of groups with 16 ranges take 25 MB.
const (
	maxPullTracks = 20_000
	maxPullRanges = 16
	pullTrackLife = 24 * time.Hour // after the last pull
	pullMerge     = time.Second    // pulls within it make one range
)

// note takes in one pull that was read.
func (l *pullLog) note(now time.Time, r *PullRequest, res *PullResult) {
	t := l.track(pullKey{r.Group, r.Topic, r.QueueID})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last.asked(now, r.ClientID, r.Offset)
	if r.HasCommit {
		t.last.commit(now, r.Commit)
	}
	if res.Status == PullFound {
		t.last.Given, t.last.GivenAt = res.Next, now
		t.add(now, r.ClientID, r.Offset, res.Next)
	}
}

// notePop takes in what one pop got of a queue.
func (l *pullLog) notePop(now time.Time, r *PopRequest, q *PopQueue) {
	if len(q.Messages) == 0 {
		return
	}
	t := l.track(pullKey{r.Group, r.Topic, q.Queue})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last.asked(now, r.ClientID, q.Messages[0].Offset)
	for _, m := range q.Messages {
		t.add(now, r.ClientID, m.Offset, m.Offset+1) // joins those that follow on one another
		t.last.Given, t.last.GivenAt = m.Offset+1, now
	}
}

func (p *LastPull) asked(now time.Time, client string, offset message.Offset) {
	if p.At.IsZero() || p.Client != client {
		p.Client, p.Since = client, now
	}
	p.At, p.Offset = now, offset
}

func (p *LastPull) commit(now time.Time, offset message.Offset) {
	if offset > p.Commit {
		p.Commit, p.CommitAt = offset, now
	}
}

// add notes a range. When there is no room, the two oldest neighbours of one
// client are made one, which costs precision but no range; failing that, the
// oldest goes.
func (t *pullTrack) add(now time.Time, client string, from, to message.Offset) {
	for i := len(t.ranges) - 1; i >= 0; i-- {
		if r := &t.ranges[i]; r.Client == client && r.To == from && now.Sub(r.First) < pullMerge {
			r.To, r.Last = to, now
			return
		}
	}
	if len(t.ranges) == maxPullRanges {
		t.shrink()
	}
	t.ranges = append(t.ranges, PullRange{client, from, to, now, now})
}

func (t *pullTrack) shrink() {
	for i := range len(t.ranges) - 1 {
		a, b := &t.ranges[i], &t.ranges[i+1]
		if a.Client == b.Client && a.To == b.From && i < maxPullRanges/2 {
			b.From, b.First = a.From, a.First
			t.ranges = append(t.ranges[:i], t.ranges[i+1:]...)
			return
		}
	}
	t.ranges = append(t.ranges[:0], t.ranges[1:]...)
}

// committed takes in a commit that came by itself.
func (l *pullLog) committed(now time.Time, group, topic string, queue int32, offset message.Offset) {
	if t := l.find(pullKey{group, topic, queue}); t != nil {
		t.mu.Lock()
		t.last.commit(now, offset)
		t.mu.Unlock()
	}
}

func (l *pullLog) find(k pullKey) *pullTrack {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.tracks[k]
}

// track returns the track of a key. When there are too many, any other goes.
func (l *pullLog) track(k pullKey) *pullTrack {
	if t := l.find(k); t != nil {
		return t
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tracks[k]; t != nil {
		return t
	}
	if l.tracks == nil {
		l.tracks = map[pullKey]*pullTrack{}
	}
	if len(l.tracks) >= maxPullTracks {
		for other := range l.tracks {
			delete(l.tracks, other)
			break
		}
	}
	t := &pullTrack{last: LastPull{Given: message.NoOffset, Commit: message.NoOffset}}
	l.tracks[k] = t
	return t
}

// of returns what is known of a group's pulls from a queue; false for nothing.
func (l *pullLog) of(group, topic string, queue int32) (LastPull, []PullRange, bool) {
	t := l.find(pullKey{group, topic, queue})
	if t == nil {
		return LastPull{}, nil, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, append([]PullRange(nil), t.ranges...), !t.last.At.IsZero()
}

// sweep forgets the queues that nobody has pulled for long.
func (l *pullLog) sweep(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, t := range l.tracks {
		t.mu.Lock()
		old := now.Sub(t.last.At) > pullTrackLife
		t.mu.Unlock()
		if old {
			delete(l.tracks, k)
		}
	}
}

// PullTracks returns how many queues of groups the log of pulls knows; bounded.
func (b *Broker) PullTracks() int {
	b.pulls.mu.RLock()
	defer b.pulls.mu.RUnlock()
	return len(b.pulls.tracks)
}
