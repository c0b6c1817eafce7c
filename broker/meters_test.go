package broker

import (
	"testing"
	"time"
)

func TestMeters(t *testing.T) {
	var m meters
	at := time.Date(2026, 11, 21, 23, 50, 0, 0, time.UTC)
	if r, _ := m.rates(meterSample{at: at}); r != (Rates{}) {
		t.Errorf("rates before the first sample: %v", r)
	}
	put := int64(0)
	for range 200 { // ten messages a second, then a hundred for the last minute
		m.sample(meterSample{at: at, put: put, got: 2 * put})
		at = at.Add(meterEvery)
		if put += 100; at.Hour() == 0 && at.Minute() >= 22 {
			put += 900
		}
	}
	r, days := m.rates(meterSample{at: at, put: put, got: 2 * put})
	if len(m.samples) != meterSamples {
		t.Errorf("%d samples are kept", len(m.samples))
	}
	if r.Put[0] != 100 || r.Put[1] != 100 || r.Put[2] <= 10 || r.Put[2] >= 60 || r.Got[0] != 200 {
		t.Errorf("rates = %v", r)
	}
	if days.PutToday != 5900 || days.GotToday != 11800 || days.PutYesterday != 0 {
		t.Errorf("days = %+v", days)
	}
}
