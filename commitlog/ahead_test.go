package commitlog

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/merlinmq/merlin/internal/vfs"
)

const chunkFile = 3*aheadChunk + 12345

// chunkFiles returns two segments with random bytes.
func chunkFiles(t *testing.T, fsys vfs.FS) (segs [2]*segment, data [2][]byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range segs {
		segs[i] = newSegment(fsys, "d", int64(i*chunkFile), chunkFile)
		if err := fsys.MkdirAll("d"); err != nil {
			t.Fatal(err)
		}
		if err := segs[i].create(); err != nil {
			t.Fatal(err)
		}
		data[i] = make([]byte, chunkFile)
		for j := range data[i] {
			data[i][j] = byte(rng.Uint32())
		}
		f, err := segs[i].open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(data[i], 0); err != nil {
			t.Fatal(err)
		}
	}
	return segs, data
}

// TestChunks: whatever is asked for, in order or not, of one file or another,
// is what the files hold.
func TestChunks(t *testing.T) {
	segs, data := chunkFiles(t, vfs.NewMem())
	rapid.Check(t, func(t *rapid.T) {
		var c chunks
		off, i := int64(0), 0
		for range 200 {
			most := rapid.SampledFrom([]int64{8, 3000, scanChunk / 3, 3 * scanChunk, aheadChunk}).Draw(t, "most")
			n := min(rapid.Int64Range(1, most).Draw(t, "n"), chunkFile-off)
			b, err := c.bytes(segs[i], off, int(n), chunkFile)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(b)) < n || !bytes.Equal(b, data[i][off:off+int64(len(b))]) {
				t.Fatalf("%d bytes of file %d at %d are others", n, i, off)
			}
			switch rapid.IntRange(0, 30).Draw(t, "then") {
			case 0:
				off = rapid.Int64Range(0, chunkFile-1).Draw(t, "off")
			case 1:
				i = 1 - i
			case 2:
				c.forget()
			default:
				off += n
			}
			if off >= chunkFile {
				off, i = 0, 1-i
			}
		}
		c.forget()
		if c.next != nil {
			t.Fatal("something is still being read")
		}
	})
}

// TestChunksSayWhatFailed: a read that fails ends the walk, wherever it was
// begun.
func TestChunksSayWhatFailed(t *testing.T) {
	for nth := 1; ; nth++ {
		fsys := vfs.NewFaulty(vfs.NewMem())
		segs, _ := chunkFiles(t, fsys)
		fsys.FailNth(vfs.KindRead, nth, nil)
		var c chunks
		var err error
		for off := int64(0); off < chunkFile && err == nil; off += 1000 {
			_, err = c.bytes(segs[0], off, int(min(1000, chunkFile-off)), chunkFile)
		}
		c.forget()
		if err == nil {
			if nth < 5 {
				t.Errorf("%d reads went through", nth-1)
			}
			return
		}
	}
}

// shortFile ends where it says, and fails behind that.
type shortFile struct {
	vfs.File
	end int64
	err error
}

func (f shortFile) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) <= f.end {
		return len(b), nil
	}
	return int(max(0, f.end-off)), f.err
}

func TestReadFull(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		f    shortFile
		n    int
		want error
	}{
		{shortFile{end: 10}, 10, nil},
		{shortFile{end: 9}, 9, io.EOF},
		{shortFile{end: 9, err: io.EOF}, 9, io.EOF},
		{shortFile{end: 3, err: broken}, 3, broken},
	} {
		if n, err := readFull(tt.f, make([]byte, 10), 0); n != tt.n || err != tt.want {
			t.Errorf("%+v: %d, %v", tt.f, n, err)
		}
	}
}
