// Package golden hands tests the store folders that real Apache brokers wrote (test/testdata/stores) and what Apache's
// own classes and running broker said is in them. It knows nothing of the product's packages, so that they can be checked against it.
package golden

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The archives. Clean ones were stopped by SIGTERM, Kill ones by SIGKILL; IPv6 was written by a broker on ::1 and stopped cleanly.
const (
	Clean550 = "apache-5.5.0-clean"
	Kill550  = "apache-5.5.0-kill"
	Clean497 = "apache-4.9.7-clean"
	Kill497  = "apache-4.9.7-kill"
	IPv6     = "apache-5.5.0-ipv6"
)

// Names returns every archive.
func Names() []string { return []string{Clean550, Kill550, Clean497, Kill497, IPv6} }

// Manifest is what must be found in a store folder.
type Manifest struct {
	Apache      string    `json:"apache"`      // version of the broker
	Stop        string    `json:"stop"`        // "clean" or "kill"
	SegmentSize int64     `json:"segmentSize"` // bytes of a commit log file
	End         int64     `json:"end"`         // position behind the last record
	Abort       bool      `json:"abort"`       // whether the file abort exists
	Records     []Record  `json:"records"`     // all of the log in order, read by Apache's record decoder
	Blanks      []Blank   `json:"blanks"`      // end-of-file fillers
	Entries     []Rows    `json:"entries"`     // all consume queues as their files hold them
	Pending     []Pending `json:"pending"`     // what waits for its time
	Live        Live      `json:"live"`
}

// Live is what the running broker answered right before it ended.
type Live struct {
	Queues  []Queue  `json:"queues"`
	Offsets []Offset `json:"offsets"`
	Queries []Query  `json:"queries"`
	Halves  []Half   `json:"halves"`
}

// Record is one message as it is stored. Times are ms since 1970, hosts are "1.2.3.4:5" or "[0:0:0:0:0:0:0:1]:5" as Java writes them.
type Record struct {
	Position       int64             `json:"position"`
	Size           int32             `json:"size"`
	Version        int               `json:"version"` // 1 or 2, from the magic
	Topic          string            `json:"topic"`
	Queue          int32             `json:"queue"`
	Offset         int64             `json:"offset"`
	Flag           int32             `json:"flag"`
	SysFlag        int32             `json:"sysFlag"`
	BodyCRC        int32             `json:"bodyCRC"` // as stored: the sign bit is cleared
	BodySize       int               `json:"bodySize"`
	BodySHA256     string            `json:"bodySHA256"` // of the stored, perhaps compressed bytes
	BornTime       int64             `json:"bornTime"`
	BornHost       string            `json:"bornHost"`
	StoreTime      int64             `json:"storeTime"`
	StoreHost      string            `json:"storeHost"`
	ReconsumeTimes int32             `json:"reconsumeTimes"`
	PreparedOffset int64             `json:"preparedOffset"`
	Properties     map[string]string `json:"properties"` // KEYS, TAGS, UNIQ_KEY among them
}

// Blank is the filler at the end of a commit log file.
type Blank struct {
	Position int64 `json:"position"`
	Size     int32 `json:"size"`
}

// Rows are the rows of one consume queue: position, size, tag code (due time in ms in a schedule queue).
type Rows struct {
	Topic    string     `json:"topic"`
	Queue    int32      `json:"queue"`
	First    int64      `json:"first"`    // offset of the first row
	FileSize int64      `json:"fileSize"` // bytes of a file
	Rows     [][3]int64 `json:"rows"`
}

// Queue is what a pull from the running broker found.
type Queue struct {
	Topic     string  `json:"topic"`
	Queue     int32   `json:"queue"`
	Min       int64   `json:"min"`
	Max       int64   `json:"max"`
	Positions []int64 `json:"positions"` // by offset, from Min to Max
}

// Offset is a committed offset; what is not listed has none.
type Offset struct {
	Group  string `json:"group"`
	Topic  string `json:"topic"`
	Queue  int32  `json:"queue"`
	Offset int64  `json:"offset"`
}

// Query is what the running broker found by a key.
type Query struct {
	Topic     string  `json:"topic"`
	Key       string  `json:"key"`
	Positions []int64 `json:"positions"` // ascending
}

// Half is a message sent in a transaction.
type Half struct {
	UniqueKey string `json:"uniqueKey"`
	Topic     string `json:"topic"`
	Queue     int32  `json:"queue"`
	Group     string `json:"group"`
	State     string `json:"state"` // "committed", "rolled back" or "unknown" (still to be checked)
}

// Pending is a message that waits for its time.
type Pending struct {
	Kind      string `json:"kind"`  // "level" or "timer"
	Level     int    `json:"level"` // from 1; 0 for a timer
	Due       int64  `json:"due"`   // ms since 1970
	Position  int64  `json:"position"`
	Topic     string `json:"topic"` // where it goes to
	Queue     int32  `json:"queue"`
	UniqueKey string `json:"uniqueKey"`
}

// Unpack puts an archive into a folder of the test, which may do to it what it likes, and returns the folder and its manifest.
func Unpack(t testing.TB, name string) (string, Manifest) {
	t.Helper()
	dir := t.TempDir()
	if err := unpack(filepath.Join(stores(), name+".tar.gz"), dir); err != nil {
		t.Fatalf("golden: unpacking %s: %v", name, err)
	}
	return dir, Load(t, name)
}

// Load returns the manifest of an archive.
func Load(t testing.TB, name string) Manifest {
	t.Helper()
	var m Manifest
	err := gunzip(filepath.Join(stores(), name+".json.gz"), func(r io.Reader) error { return json.NewDecoder(r).Decode(&m) })
	if err != nil {
		t.Fatalf("golden: manifest of %s: %v", name, err)
	}
	return m
}

func stores() string { return filepath.Join(testdata(), "stores") }

func testdata() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "testdata")
}

func gunzip(name string, read func(io.Reader) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	return errors.Join(read(z), z.Close())
}

func unpack(archive, dir string) error {
	return gunzip(archive, func(r io.Reader) error {
		tr := tar.NewReader(r)
		for {
			h, err := tr.Next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			name := filepath.Join(dir, filepath.FromSlash(h.Name))
			if !strings.HasPrefix(name, dir) {
				return fmt.Errorf("%s lies outside", h.Name)
			}
			switch h.Typeflag {
			case tar.TypeDir:
				err = os.MkdirAll(name, 0o755)
			case tar.TypeReg:
				err = writeSparse(name, tr, h.Size)
			}
			if err != nil {
				return err
			}
		}
	})
}

// writeSparse leaves holes where the content is zero, as the broker's own files have them.
func writeSparse(name string, r io.Reader, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for at := int64(0); at < size && err == nil; at += int64(len(buf)) {
		n, e := io.ReadFull(r, buf[:min(int64(len(buf)), size-at)])
		if err = e; err == nil && !zero(buf[:n]) {
			_, err = f.WriteAt(buf[:n], at)
		}
	}
	return errors.Join(err, f.Truncate(size), f.Close())
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
