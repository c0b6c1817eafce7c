package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// small are flags for files that hold little.
var small = []string{"--set", "mappedFileSizeCommitLog=65536", "--set", "mappedFileSizeConsumeQueue=640", "--set", "maxHashSlotNum=50", "--set", "maxIndexNum=400"}

// storeFolder makes a folder with 400 messages, about four segments.
func storeFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(dir, store.Options{SegmentSize: 1 << 16, QueueFileEntries: 32, IndexSlots: 50, IndexItems: 400})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		p := message.Properties(nil).Append(message.PropKeys, fmt.Sprint("key", i))
		if _, err := s.Put(&message.Message{Topic: "orders", QueueID: int32(i % 2), Body: bytes.Repeat([]byte("x"), 400), Properties: p}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// merlin runs a command line in this process.
func merlin(t *testing.T, ctx context.Context, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(ctx, args, streams{in: strings.NewReader(""), out: &o, err: &e, env: func(string) string { return "" }})
	return code, o.String(), e.String()
}

// inFolder runs a command of the store.
func inFolder(t *testing.T, dir string, args ...string) (code int, out, errs string) {
	t.Helper()
	return merlin(t, context.Background(), append(append([]string{"store"}, args...), append([]string{"--data", dir}, small...)...)...)
}

func TestStoreCommands(t *testing.T) {
	dir := storeFolder(t)
	segment := filepath.Join(dir, "commitlog", fmt.Sprintf("%020d", 65536))

	code, out, errs := inFolder(t, dir, "verify")
	if code != 0 || !strings.Contains(out, "400 records") || !strings.Contains(out, "0 places damaged") {
		t.Errorf("verify of a good folder: %d\n%s%s", code, out, errs)
	}
	code, out, errs = inFolder(t, dir, "dump", "--json")
	if lines := strings.Count(out, "\n"); code != 0 || lines != 400 {
		t.Errorf("dump: %d, %d lines, want 400\n%s", code, lines, errs)
	}
	var first struct {
		Topic      string
		Properties map[string]string
	}
	if err := json.Unmarshal([]byte(out[:strings.Index(out, "\n")]), &first); err != nil || first.Topic != "orders" || first.Properties["KEYS"] != "key0" {
		t.Errorf("the first line of the dump: %+v, %v", first, err)
	}
	if code, out, errs = inFolder(t, dir, "dump", "consumequeue/orders/1"); code != 0 || strings.Count(out, "\n") != 200 {
		t.Errorf("dump of a queue: %d, %d lines\n%s", code, strings.Count(out, "\n"), errs)
	}
	if code, out, errs = inFolder(t, dir, "dump", "index"); code != 0 || strings.Count(out, "item ") != 400 {
		t.Errorf("dump of the index: %d, %d items\n%s", code, strings.Count(out, "item "), errs)
	}
	code, out, errs = inFolder(t, dir, "status", "--json")
	var st storeStatus
	if err := json.Unmarshal([]byte(out), &st); err != nil || code != 0 || st.State != "closed" || st.Durable != st.Max || len(st.Segments) < 3 {
		t.Errorf("status: %d %+v %v\n%s", code, st, err, errs)
	}
	if code, out, errs = inFolder(t, dir, "export"); code != 0 {
		t.Errorf("export: %d\n%s%s", code, out, errs)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "config", "topics.json")); err != nil || !bytes.Contains(text, []byte("topicConfigTable")) {
		t.Errorf("topics.json: %v\n%s", err, text)
	}

	// Damage: verify names it, and dump prints around it.
	data, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	data[20000] ^= 0xFF
	if err := os.WriteFile(segment, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out, errs = inFolder(t, dir, "verify"); code != 1 || !strings.Contains(out, segment+" at ") || !strings.Contains(errs, "damaged") {
		t.Errorf("verify of a damaged record: %d\n%s%s", code, out, errs)
	}
	if code, out, _ = inFolder(t, dir, "dump"); code != 0 || !strings.Contains(out, "damaged, ") || strings.Count(out, "\n") != 400 {
		t.Errorf("dump around a damaged record: %d, %d lines", code, strings.Count(out, "\n"))
	}

	// Repair only when told to, and told twice.
	if code, _, _ = inFolder(t, dir, "repair"); code != exitUsage {
		t.Errorf("repair without a flag: %d", code)
	}
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs = inFolder(t, dir, "repair", "--rebuild"); code != 1 || !strings.Contains(errs, "made anew") || !strings.Contains(errs, "--yes") {
		t.Errorf("repair without --yes: %d\n%s", code, errs)
	}
	if code, out, errs = inFolder(t, dir, "repair", "--rebuild", "--drop-index", "--yes"); code != 0 || !strings.Contains(out, "399 records") {
		t.Errorf("repair: %d\n%s%s", code, out, errs)
	}
}

// TestBadDataFolders: one clear sentence that names the file and what to do,
// no start, and nothing deleted.
func TestBadDataFolders(t *testing.T) {
	serve := func(ctx context.Context, dir string, more ...string) (int, string, string) {
		return merlin(t, ctx, append(serverArgs(dir), more...)...)
	}
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  []string
	}{
		{"in use", func(t *testing.T, dir string) {
			s, err := store.Open(dir, store.Options{SegmentSize: 1 << 16, QueueFileEntries: 32, IndexSlots: 50, IndexItems: 400})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
		}, []string{"in use by another process", "stop the Merlin or RocketMQ broker", "--data"}},
		{"newer format", func(t *testing.T, dir string) {
			name := filepath.Join(dir, "merlin.mark")
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; at+96 <= len(b); at += 4096 {
				binary.BigEndian.PutUint32(b[at+8:], 7)
				binary.BigEndian.PutUint32(b[at+92:], crc32.Checksum(b[at:at+92], crc32.MakeTable(crc32.Castagnoli)))
			}
			if err := os.WriteFile(name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}, []string{"newer format", "version 7", "merlin.mark", "use a newer Merlin"}},
		{"a segment is missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "commitlog", fmt.Sprintf("%020d", 65536))); err != nil {
				t.Fatal(err)
			}
		}, []string{"commitlog/00000000000000065536 is not there", "put it back", "--accept-loss"}},
		{"the last segment lost its bytes", func(t *testing.T, dir string) {
			list, err := filepath.Glob(filepath.Join(dir, "commitlog", "0*"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(list[len(list)-1], 0); err != nil {
				t.Fatal(err)
			}
		}, []string{"is not there", "--accept-loss"}},
		{"the last segment is missing", func(t *testing.T, dir string) {
			list, err := filepath.Glob(filepath.Join(dir, "commitlog", "0*"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(list[len(list)-1]); err != nil {
				t.Fatal(err)
			}
		}, []string{"is not there", "--accept-loss"}},
		{"the small state is missing", func(t *testing.T, dir string) {
			brokerFolder(t, dir)
			if err := os.RemoveAll(filepath.Join(dir, "kv")); err != nil {
				t.Fatal(err)
			}
		}, []string{"kv has no database any more", "merlin.state", "put the folder back", "--accept-loss"}},
		{"a newer small state", func(t *testing.T, dir string) { newerKV(t, filepath.Join(dir, "kv")) }, []string{`kv has format "9"`, "newer version"}},
		{"a file where the folder should be", func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}, []string{"not a directory"}},
		{"read-only", func(t *testing.T, dir string) {
			if os.Getuid() == 0 {
				t.Skip("nothing is read-only to root")
			}
			for _, p := range []string{filepath.Join(dir, "lock"), dir} {
				if err := os.Chmod(p, 0o555); err != nil {
					t.Fatal(err)
				}
			}
			t.Cleanup(func() { os.Chmod(dir, 0o755) })
		}, []string{"must be able to write to"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := storeFolder(t)
			c.spoil(t, dir)
			before := files(dir)
			mark := lastChange(dir)
			code, out, errs := serve(context.Background(), dir)
			if code != 1 || strings.Contains(out, "ready") || strings.Contains(out, "broker listening") || strings.Contains(out, "namesrv listening") {
				t.Errorf("exit code %d, printed %q", code, out)
			}
			said := ""
			for line := range strings.Lines(errs) {
				if strings.HasPrefix(line, "merlin: ") {
					said += line
				}
			}
			if strings.Count(said, "\n") != 1 {
				t.Errorf("want one line, got %q", said)
			}
			for _, w := range c.want {
				if !strings.Contains(said, w) {
					t.Errorf("%q does not say %q", said, w)
				}
			}
			after := files(dir)
			for _, f := range before {
				if _, err := os.Stat(f); err != nil {
					t.Errorf("%s is gone", f)
				}
			}
			if len(after) != len(before) && c.name != "in use" {
				t.Errorf("%d files became %d", len(before), len(after))
			}
			if now := lastChange(dir); now != mark && c.name != "in use" { // whoever uses it may write
				t.Errorf("something was written into the folder at %v", now)
			}
		})
	}
	t.Run("told to accept the loss", func(t *testing.T) {
		dir := storeFolder(t)
		if err := os.Remove(filepath.Join(dir, "commitlog", fmt.Sprintf("%020d", 65536))); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // before the log is read
		if code, out, errs := serve(ctx, dir, "--accept-loss"); code != 0 || strings.Contains(out, "ready") || !strings.Contains(errs, "stopped before it was ready") {
			t.Errorf("told to end while it recovers: exit code %d\n%s%s", code, out, errs)
		}
		r := serving(t, append([]string{"broker", "--data", dir, "--broker-listen", "127.0.0.1:0", "--http-listen", "", "--namesrv", "127.0.0.1:1", "--accept-loss"}, small...)...)
		r.stop()
	})
}

// files lists a data folder, but for the lock that every start leaves.
func files(dir string) (names []string) {
	for _, pattern := range []string{"*", "*/*", "consumequeue/*/*/*"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		names = append(names, found...)
	}
	return slices.DeleteFunc(names, func(name string) bool { return filepath.Base(name) == "lock" })
}

// lastChange returns when a file of the log, the queues, the index or the small
// state, or the sign that the folder is in use, was written last.
func lastChange(dir string) (last time.Time) {
	for _, pattern := range []string{"abort", "*/0*", "consumequeue/*/*/*", "kv/*.l*", "kv/MANIFEST*"} {
		names, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && info.ModTime().After(last) {
				last = info.ModTime()
			}
		}
	}
	return last
}

// brokerFolder makes a folder as a broker leaves it.
func brokerFolder(t *testing.T, dir string) {
	t.Helper()
	r := serving(t, serverArgs(dir)...)
	r.stop()
}

// newerKV makes a database of a format that is to come: the value in the only
// record of its journal is the format.
func newerKV(t *testing.T, dir string) {
	t.Helper()
	db, err := kv.Open(dir, kv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	journals, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(journals) != 1 {
		t.Fatal(journals, err)
	}
	b, err := os.ReadFile(journals[0])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(b, []byte("format\x011")) {
		t.Fatalf("the journal is %q", b)
	}
	b[len(b)-1] = '9'
	sum := crc32.Checksum(b[6:], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(b, (sum>>15|sum<<17)+0xa282ead8)
	if err := os.WriteFile(journals[0], b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// serverArgs runs a server on free ports.
func serverArgs(dir string) []string {
	return append([]string{"server", "--data", dir, "--broker-listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0", "--http-listen", ""}, small...)
}

func TestFolderAdvice(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.ENOSPC: "make room", syscall.EROFS: "name another folder", syscall.EACCES: "change the owner",
	} {
		err := folderAdvice("/data", &os.PathError{Op: "open", Path: "/data/lock", Err: errno})
		if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "/data/lock") {
			t.Errorf("%v: %q does not say %q", errno, err, want)
		}
	}
}
