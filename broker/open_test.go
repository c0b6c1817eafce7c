package broker

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
)

// TestAFailedOpenLeavesNothingAtWork: the last part that is opened fails, and
// the re-drives and the retention that were begun before it are ended.
func TestAFailedOpenLeavesNothingAtWork(t *testing.T) {
	dir := t.TempDir()
	options := func() Options {
		s := DefaultSettings()
		quickLevels(s)
		s.SegmentSize, s.QueueFileEntries, s.IndexSlots, s.IndexItems = 1<<20, 1000, 1000, 4000
		return Options{Settings: s, StoreHost: testAddr}
	}
	b := must(Open(dir, options()))
	redriveTopics(t, b)
	die(t, b, "g", "orders", 1000, nil)
	must(b.Redrive(RedriveSpec{ID: "slow", Group: "g", To: RedriveTopic, Topic: "other", Rate: 1}))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	spoil := func(change func(rows *kv.Bucket[[]byte]) error) {
		t.Helper()
		db := must(kv.Open(filepath.Join(dir, "kv"), kv.Options{}))
		if err := change(kv.NewBucket(db, "pop", kv.Bytes())); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	bad := []byte("no row of what is handed out")
	spoil(func(rows *kv.Bucket[[]byte]) error { return rows.Put(bad, bad, kv.Synced) })
	if b, err := Open(dir, options()); err == nil {
		_ = b.Close()
		t.Fatal("a folder with a row that does not decode was opened")
	}
	buf := make([]byte, 4<<20)
	for _, what := range []string{"redriveWork).run", "cron.(*Cron).run"} {
		// A goroutine that was told to end may be seen for a moment more.
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			stacks := string(buf[:runtime.Stack(buf, true)])
			if !strings.Contains(stacks, what) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("after the open failed %s is at work:\n%s", what, stacks)
			}
		}
	}
	spoil(func(rows *kv.Bucket[[]byte]) error { return rows.Delete(bad, kv.Synced) })
	b = must(Open(dir, options()))
	if r := must(b.Redrives("slow"))[0]; r.State != RedriveRunning {
		t.Errorf("%+v", r)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
