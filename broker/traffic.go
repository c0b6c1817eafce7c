package broker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/merlinmq/merlin/store"
)

// TrafficKind is what a counter of a topic or group counts.
type TrafficKind int

// The kinds.
const (
	TrafficPut      TrafficKind = iota // messages stored, by topic
	TrafficGet                         // messages handed out, by topic and group
	TrafficSentBack                    // messages given back, by topic and group
)

// trafficKey names a counter.
type trafficKey struct {
	kind         TrafficKind
	topic, group string
}

// maxTraffic bounds how many topics and groups are counted; what comes later is
// not counted.
const maxTraffic = 20_000

// trafficSpans are the spans that are told, with the time between the samples
// of each.
var trafficSpans = [3]struct {
	every   time.Duration
	samples int
}{{10 * time.Second, 6}, {10 * time.Minute, 6}, {time.Hour, 24}}

// trafficCounter is written with atomic adds; its samples belong to traffic.
type trafficCounter struct {
	messages, bytes atomic.Int64
	samples         [3][]trafficSample // oldest first
}

type trafficSample struct {
	at              time.Time
	messages, bytes int64
}

// traffic counts by topic and group. Safe for concurrent use.
type traffic struct {
	mu       sync.RWMutex // guards what follows, and the counters' samples
	counters map[trafficKey]*trafficCounter
}

// count adds to a counter. It allocates with the first message of a key alone.
func (t *traffic) count(now func() time.Time, key trafficKey, messages, bytes int) {
	t.mu.RLock()
	c := t.counters[key]
	full := len(t.counters) >= maxTraffic
	t.mu.RUnlock()
	if c == nil {
		if full {
			return
		}
		c = t.add(key, now())
	}
	c.messages.Add(int64(messages))
	c.bytes.Add(int64(bytes))
}

// arrived counts what was stored: neighbours of one topic at once.
func (t *traffic) arrived(now func() time.Time, arrivals []store.Arrival) {
	for i := 0; i < len(arrivals); {
		topic, messages, bytes := arrivals[i].Topic, 0, 0
		for ; i < len(arrivals) && arrivals[i].Topic == topic; i++ {
			messages++
			bytes += int(arrivals[i].Size)
		}
		t.count(now, trafficKey{TrafficPut, topic, ""}, messages, bytes)
	}
}

func (t *traffic) add(key trafficKey, now time.Time) *trafficCounter {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counters[key]
	if c == nil {
		c = &trafficCounter{}
		for i := range c.samples {
			c.samples[i] = append(c.samples[i], trafficSample{at: now})
		}
		if t.counters == nil {
			t.counters = map[trafficKey]*trafficCounter{}
		}
		t.counters[key] = c
	}
	return c
}

// sample notes the counters of this moment, and forgets those that did not
// move for a day.
func (t *traffic) sample(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, c := range t.counters {
		s := trafficSample{now, c.messages.Load(), c.bytes.Load()}
		for i, span := range trafficSpans {
			if list := c.samples[i]; now.Sub(list[len(list)-1].at) >= span.every {
				if len(list) > span.samples {
					list = append(list[:0], list[1:]...)
				}
				c.samples[i] = append(list, s)
			}
		}
		if day := c.samples[2]; len(day) > trafficSpans[2].samples && day[0].messages == s.messages {
			delete(t.counters, key)
		}
	}
}

// Traffic is what was counted over the last minute, hour and day, or since the
// first message if that is shorter.
type Traffic struct {
	Seconds, Messages, Bytes [3]float64
}

// Traffic returns what was counted of a topic, or of a group in it; false if
// nothing was.
func (b *Broker) Traffic(kind TrafficKind, topic, group string) (Traffic, bool) {
	return b.traffic.read(trafficKey{kind, topic, group}, b.now())
}

func (t *traffic) read(key trafficKey, now time.Time) (out Traffic, known bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	c := t.counters[key]
	if c == nil {
		return out, false
	}
	for i := range c.samples {
		from := c.samples[i][0]
		out.Seconds[i] = now.Sub(from.at).Seconds()
		out.Messages[i] = float64(c.messages.Load() - from.messages)
		out.Bytes[i] = float64(c.bytes.Load() - from.bytes)
	}
	return out, true
}
