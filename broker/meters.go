package broker

import (
	"sync"
	"time"
)

// Rates are how much a broker did a second, over the last 10 s, minute and ten
// minutes, or since its start if that is shorter.
type Rates struct {
	Put, Got, Missed [3]float64
}

// DayCounts are counters at the beginnings of days, for tools that compare.
type DayCounts struct {
	PutYesterday, PutToday int64 // messages stored before yesterday's, today's midnight
	GotYesterday, GotToday int64
}

// meterEvery is how often Sample is to be called.
const meterEvery = 10 * time.Second

// meterSpans are the spans of Rates.
var meterSpans = [3]time.Duration{meterEvery, time.Minute, 10 * time.Minute}

const meterSamples = int(10*time.Minute/meterEvery) + 1

// meters keep samples of the store's counters.
type meters struct {
	mu      sync.Mutex    // guards what follows
	samples []meterSample // oldest first, at most meterSamples
	days    DayCounts
}

type meterSample struct {
	at               time.Time
	put, got, missed int64
}

// sample notes the counters of this moment.
func (m *meters) sample(s meterSample) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.samples); n > 0 && s.at.YearDay() != m.samples[n-1].at.YearDay() {
		m.days.PutYesterday, m.days.GotYesterday = m.days.PutToday, m.days.GotToday
		m.days.PutToday, m.days.GotToday = m.samples[n-1].put, m.samples[n-1].got
	}
	if len(m.samples) == meterSamples {
		copy(m.samples, m.samples[1:])
		m.samples = m.samples[:meterSamples-1]
	}
	m.samples = append(m.samples, s)
}

func (m *meters) rates(now meterSample) (r Rates, days DayCounts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, span := range meterSpans {
		from := now
		for k := len(m.samples) - 1; k >= 0 && now.at.Sub(from.at) < span; k-- {
			from = m.samples[k]
		}
		if took := now.at.Sub(from.at).Seconds(); took > 0 {
			r.Put[i] = float64(now.put-from.put) / took
			r.Got[i] = float64(now.got-from.got) / took
			r.Missed[i] = float64(now.missed-from.missed) / took
		}
	}
	return r, m.days
}

func (b *Broker) meterNow() meterSample {
	s := b.store.Stats()
	return meterSample{at: b.now(), put: s.PutMessages, got: s.GetMessages, missed: s.GetMisses}
}

// Rates returns how much the broker does a second, and its counters at the
// beginnings of days.
func (b *Broker) Rates() (Rates, DayCounts) { return b.meters.rates(b.meterNow()) }

// Now returns the broker's time.
func (b *Broker) Now() time.Time { return b.now() }
