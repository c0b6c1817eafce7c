package store

import (
	"strings"
	"testing"
)

// TestInspectOfADamagedSegment: the size field of a record says anything; the
// segment is listed all the same, and Verify names the place.
func TestInspectOfADamagedSegment(t *testing.T) {
	for _, head := range []string{"\xff\xff\xff\xff", "\x80\x00\x00\x00", "\x00\x00\x00\x00", "\x00\x00\x00\x07", "\x7f\xff\xff\xff", "\x03\xff\xff\xff"} {
		fsys, _ := filled(t, true)
		name := files(t, fsys, "/data/commitlog")[2]
		overwrite(t, fsys, name, 0, []byte(head))
		in, err := Inspect(fsys, "/data")
		if err != nil {
			t.Errorf("%q: Inspect: %v", head, err)
			continue
		}
		if seg := in.Segments[2]; seg.File != name || seg.FirstStoreTime != 0 || in.Segments[1].FirstStoreTime == 0 {
			t.Errorf("%q: %+v", head, in.Segments[:3])
		}
		v, err := Verify("/data", VerifyOptions{FS: fsys, QueueFileEntries: 64, IndexSlots: 64, IndexItems: 256})
		if err != nil || v.Damaged == 0 || v.Places[0].File != name || v.Places[0].Offset != 0 {
			t.Errorf("%q: Verify: %+v, %v", head, v.Places, err)
		}
	}
}

// FuzzInspect puts any bytes at any place of any file: Inspect and Verify
// neither panic nor hang, and change nothing.
func FuzzInspect(f *testing.F) {
	names := []string{"commitlog/00000000000000000000", "commitlog/00000000000000016384", "merlin.mark", "checkpoint",
		"consumequeue/t0/0/00000000000000000000", "merlin.queues", "index"}
	f.Add(byte(0), uint16(0), []byte("\xff\xff\xff\xff"))
	f.Add(byte(1), uint16(0), []byte("\x00\x00\x00\x08\xda\xa3\x20\xa7"))
	f.Add(byte(2), uint16(8), []byte("\xff\xff\xff\xff"))
	f.Add(byte(4), uint16(0), []byte("\x7f\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff"))
	f.Add(byte(4), uint16(20), []byte("\x00\x00\x00\x00\x00\x00\x40\x00\xff\xff\xff\xff"))
	f.Add(byte(6), uint16(0), []byte(strings.Repeat("\xff", 40)))
	base, _ := filled(f, true)
	f.Fuzz(func(t *testing.T, which byte, at uint16, data []byte) {
		fsys := killed(base)
		name := "/data/" + names[int(which)%len(names)]
		if strings.HasSuffix(name, "index") {
			name = files(t, fsys, name)[0]
		}
		overwrite(t, fsys, name, int64(at), data)
		if _, err := Inspect(fsys, "/data"); err != nil && !strings.Contains(err.Error(), "newer") {
			t.Errorf("Inspect: %v", err)
		}
		// It may refuse files of another length, and says which.
		if _, err := Verify("/data", VerifyOptions{FS: fsys, QueueFileEntries: 64, IndexSlots: 64, IndexItems: 256}); err != nil && !strings.Contains(err.Error(), "/data") {
			t.Errorf("Verify: %v", err)
		}
	})
}
