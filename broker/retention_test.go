package broker

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// segs makes segments of 1 GiB, the oldest so many hours old, one an hour.
func segs(n int, oldest int, now time.Time) []store.Segment {
	var list []store.Segment
	for i := range n {
		list = append(list, store.Segment{Base: message.Position(i << 30), Size: 1 << 30, ModTime: now.Add(-time.Duration(oldest-i) * time.Hour)})
	}
	return list
}

func TestRetentionRules(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 30, 0, 0, time.Local)
	for _, c := range []struct {
		name   string
		n, age int
		used   int64 // percent
		when   string
		budget int64
		manual bool
		force  bool
		want   int // segments that go
	}{
		{"young, at the hour", 5, 70, 10, "12", 0, false, true, 0},
		{"expired, at another hour", 5, 80, 10, "04;16", 0, false, true, 0},
		{"expired, at the hour", 5, 74, 10, "04;12", 0, false, true, 3},
		{"all expired: the last stays", 5, 200, 10, "12", 0, false, true, 4},
		{"ten at a time", 30, 200, 10, "12", 0, false, true, 10},
		{"expired, by hand", 5, 74, 10, "04", 0, true, true, 3},
		{"expired, disk above 75 %", 5, 74, 76, "04", 0, false, true, 3},
		{"young, disk above 75 %", 5, 10, 80, "04", 0, false, true, 0},
		{"young, disk above 85 %", 50, 60, 88, "04", 0, false, true, 3},
		{"young, disk above 85 %, forbidden", 50, 60, 88, "04", 0, false, false, 0},
		{"over the budget", 8, 5, 10, "04", 5 << 30, false, true, 3},
		{"budget below one segment", 8, 5, 10, "04", 1, false, true, 7},
		{"within the budget", 8, 5, 10, "04", 8 << 30, false, true, 0},
	} {
		var r Retention
		r.setDefaults()
		r.DeleteWhen.Store(c.when)
		r.StoreMaxBytes.Store(c.budget)
		r.ForceClean.Store(c.force)
		u := store.Usage{Segments: segs(c.n, c.age, now), LogBytes: int64(c.n) << 30, DiskTotal: 100 << 30, DiskFree: (100 - c.used) << 30}
		upto, why := r.upto(&u, now, c.manual)
		if upto != message.Position(c.want<<30) {
			t.Errorf("%s: %d segments go (%s), want %d", c.name, upto>>30, why, c.want)
		}
	}
}

// fullDisk is a memory file system that says how full it is.
type fullDisk struct {
	vfs.FS
	free atomic.Int64
}

func (d *fullDisk) Usage(string) (int64, int64, error) { return 1000 << 20, d.free.Load(), nil }

func TestDiskFullRefusesSendsAndEndsByItself(t *testing.T) {
	disk := &fullDisk{FS: vfs.NewMem()}
	disk.free.Store(500 << 20)
	s := DefaultSettings()
	s.SegmentSize, s.IndexSlots, s.IndexItems, s.Timer = 1<<20, 50, 200, false
	var told []bool
	b, err := Open(t.TempDir(), Options{FS: disk, Settings: s, OnWritable: func(w bool) { told = append(told, w) }})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.TakesMessages(); err != nil {
		t.Fatal(err)
	}
	disk.free.Store(80 << 20) // 92 % used
	if err := b.Retain(false); err != nil {
		t.Fatal(err)
	}
	var refusal *Error
	if err := b.TakesMessages(); !errors.As(err, &refusal) || refusal.Kind != KindDiskFull ||
		!strings.Contains(refusal.Text, "80.0 MiB free") || !strings.Contains(refusal.Text, "20.0 MiB more") {
		t.Errorf("at 92 %%: %v", err)
	}
	disk.free.Store(100 << 20)
	if err := b.Retain(false); err != nil {
		t.Fatal(err)
	}
	if err := b.TakesMessages(); err != nil {
		t.Errorf("at 90 %%: %v", err)
	}
	if fmt.Sprint(told) != "[false true]" {
		t.Errorf("told %v", told)
	}
}
