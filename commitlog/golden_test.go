package commitlog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/golden"
)

// TestApacheFolders reads the logs that Apache's brokers wrote record by record
// and goes on where they stopped.
func TestApacheFolders(t *testing.T) {
	for _, name := range golden.Names() {
		t.Run(name, func(t *testing.T) {
			archive := filepath.Join("../test/testdata/stores", name+".tar.gz")
			if _, err := os.Stat(archive); errors.Is(err, fs.ErrNotExist) {
				t.Skip("not recorded yet: " + archive)
			}
			dir, want := golden.Unpack(t, name)
			dir = filepath.Join(dir, "commitlog")
			i := 0
			check := func(pos message.Position, v message.View) error {
				if i >= len(want.Records) {
					t.Fatalf("a record at %d that Apache does not see", pos)
				}
				r := &want.Records[i]
				i++
				sum := sha256.Sum256(v.Body())
				if int64(pos) != r.Position || int32(len(v)) != r.Size || string(v.Topic()) != r.Topic ||
					v.QueueID() != r.Queue || int64(v.QueueOffset()) != r.Offset || v.StoreTimestamp() != r.StoreTime ||
					hex.EncodeToString(sum[:]) != r.BodySHA256 {
					t.Fatalf("record %d at %d is not Apache's at %d", i-1, pos, r.Position)
				}
				return nil
			}
			end, err := Scan(vfs.OS, dir, 0, check, func(file string, from, to message.Position, err error) {
				t.Errorf("damage at %d to %d: %v", from, to, err)
			})
			if err != nil || i != len(want.Records) || int64(end) != want.End {
				t.Fatalf("scan: %d of %d records to %d of %d, %v", i, len(want.Records), end, want.End, err)
			}
			l, err := Open(dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			i = 0
			if err := l.Recover(Start{Clean: !want.Abort}, check); err != nil {
				t.Fatal(err)
			}
			if i != len(want.Records) || int64(l.Max()) != want.End || l.SegmentSize() != want.SegmentSize {
				t.Fatalf("recovered %d of %d records to %d of %d", i, len(want.Records), l.Max(), want.End)
			}
			for _, b := range want.Blanks {
				head, err := l.Read(message.Position(b.Position), message.BlankSize, nil)
				if size, magic, _ := message.PeekSize(head); err != nil || magic != message.MagicBlank || int32(size) != b.Size {
					t.Errorf("filler at %d: size %d, magic %#x, %v", b.Position, size, magic, err)
				}
			}
			mustAppend(t, l, batchOf(t, 0, 400, 1000))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			n := 0
			_, err = Scan(vfs.OS, dir, 0, func(message.Position, message.View) error { n++; return nil }, nil)
			if err != nil || n != len(want.Records)+400 {
				t.Fatalf("%d records after 400 more, %v", n, err)
			}
		})
	}
}
