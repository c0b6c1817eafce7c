package commitlog

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

func openBench(b *testing.B, o Options) *Log {
	b.Helper()
	o.FS = vfs.OS
	l, err := Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Recover(Start{}, nil); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// keepSmall drops old segments, so that a long run does not fill the disk.
func keepSmall(b *testing.B, l *Log) {
	if l.Max()-l.Min() > 4<<30 {
		if _, err := l.DropOldest(1); err != nil {
			b.Error(err)
		}
	}
}

func BenchmarkAppend16(b *testing.B) {
	for _, workers := range []int{1, 8} {
		b.Run(fmt.Sprint("goroutines=", workers), func(b *testing.B) {
			l := openBench(b, Options{})
			batches := make([]*Batch, workers)
			for i := range batches {
				batches[i] = batchOf(b, i, 16, 1024)
			}
			b.SetBytes(int64(batches[0].Size()))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					for i := 0; i < b.N/workers+1; i++ {
						if _, err := l.Append(batches[w], func(int, message.Position, int64, []byte) {}); err != nil {
							b.Error(err)
							return
						}
						if i%4096 == 0 {
							keepSmall(b, l)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func BenchmarkSyncAlone(b *testing.B) {
	l := openBench(b, Options{Sync: true})
	batch := batchOf(b, 1, 1, 1024)
	done := make(chan error, 1)
	b.ReportAllocs()
	for b.Loop() {
		end, err := l.Append(batch, nil)
		if err != nil {
			b.Fatal(err)
		}
		l.WhenSafe(end, func(err error) { done <- err })
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareSync is what BenchmarkSyncAlone is compared with.
func BenchmarkBareSync(b *testing.B) {
	f, err := vfs.OS.Create(b.TempDir() + "/x")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 30); err != nil {
		b.Fatal(err)
	}
	if err := f.Allocate(0, 64<<20); err != nil {
		b.Fatal(err)
	}
	rec := batchOf(b, 1, 1, 1024).Bytes()
	off := int64(0)
	for b.Loop() {
		if _, err := f.WriteAt(rec, off); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		off = (off + int64(len(rec))) % (60 << 20)
	}
}

func BenchmarkRead(b *testing.B) {
	for _, hot := range []bool{true, false} {
		b.Run(fmt.Sprint("hot=", hot), func(b *testing.B) {
			o := Options{}
			if !hot {
				o.HotWindow = 1
			}
			l := openBench(b, o)
			batch := batchOf(b, 1, 64, 1100)
			for range 400 {
				mustAppend(b, l, batch)
			}
			size := batch.Size() / 64
			dst := make([]byte, 0, 2*size)
			pos := message.Position(0)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				var err error
				if dst, err = l.Read(pos, size, dst[:0]); err != nil {
					b.Fatal(err)
				}
				if pos += message.Position(size); pos > l.Max()-message.Position(size) {
					pos = 0
				}
			}
		})
	}
}

// BenchmarkRecover scans a log of MERLIN_BENCH_GB gigabytes (default 1).
func BenchmarkRecover(b *testing.B) {
	gb := 1
	if s := os.Getenv("MERLIN_BENCH_GB"); s != "" {
		if _, err := fmt.Sscan(s, &gb); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	l, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Recover(Start{}, nil); err != nil {
		b.Fatal(err)
	}
	batch := batchOf(b, 1, 64, 1024)
	for l.Max() < message.Position(gb)<<30-1<<20 {
		mustAppend(b, l, batch)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(l.Max()))
	for b.Loop() {
		began := time.Now()
		l, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		if err := l.Recover(Start{}, func(message.Position, message.View) error { n++; return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/time.Since(began).Seconds(), "records/s")
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
