package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

func benchStore(b *testing.B) *Store {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func kilobyte(i int) *message.Message {
	return text("bench", int32(i%8), string(make([]byte, 1024)), "UNIQ_KEY", fmt.Sprintf("7F0000010A3B18B4AAC2%012d", i), "KEYS", fmt.Sprint("key", i), "TAGS", "TagA", "WAIT", "true", "CLUSTER", "DefaultCluster")
}

// BenchmarkAppend appends batches of 16 messages of 1 KB from 8 goroutines; an
// operation is a message.
func BenchmarkAppend(b *testing.B) {
	s := benchStore(b)
	const writers, size = 8, 16
	b.SetBytes(1024)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			batch := s.NewBatch()
			m := kilobyte(w)
			for range b.N / writers / size {
				batch.Reset()
				for range size {
					if err := batch.Add(m); err != nil {
						b.Error(err)
						return
					}
				}
				if err := s.Append(batch); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	began := time.Now()
	if err := s.WaitVisible(); err != nil {
		b.Error(err)
	}
	b.ReportMetric(float64(time.Since(began).Microseconds()), "µs-behind")
}

// BenchmarkGet reads 32 messages of 1 KB; an operation is a Get.
func BenchmarkGet(b *testing.B) {
	s := benchStore(b)
	batch := s.NewBatch()
	for i := range 1000 {
		batch.Reset()
		for range 8 {
			if err := batch.Add(kilobyte(i)); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Append(batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.WaitVisible(); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 256<<10)
	tag := func(code int64) bool { return code == 2598919 }
	for name, match := range map[string]func(int64) bool{"all": nil, "tag": tag} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				q := GetQuery{Topic: "bench", Queue: int32(i % 8), Offset: message.Offset(i%30) * 32, MaxCount: 32, MatchTag: match}
				r, err := s.Get(&q, buf)
				if err != nil || r.Count != 32 {
					b.Fatalf("%d messages, %v %v", r.Count, r.Status, err)
				}
			}
		})
	}
}
