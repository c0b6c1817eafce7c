package remoting

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorded is a line of ../test/testdata/frames: a frame between Apache's own
// servers and clients, and what the recorder made of it.
type recorded struct {
	Kind, Language, Encoding, Remark, Hex string
	Code, Version, BodySize               int
	Opaque, Flag                          int32
	Ext                                   map[string]string
}

func TestRecordedFrames(t *testing.T) {
	files, err := filepath.Glob("../test/testdata/frames/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded frames: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".jsonl"), func(t *testing.T) {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			lines := bufio.NewScanner(f)
			lines.Buffer(nil, 1<<20)
			n := 0
			for ; lines.Scan(); n++ {
				var want recorded
				if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
					t.Fatalf("line %d: %v", n+1, err)
				}
				frame, err := hex.DecodeString(want.Hex)
				if err != nil {
					t.Fatalf("line %d: %v", n+1, err)
				}
				compare(t, n+1, frame, want)
			}
			if lines.Err() != nil || n == 0 {
				t.Fatalf("%d lines, %v", n, lines.Err())
			}
		})
	}
}

func compare(t *testing.T, line int, frame []byte, want recorded) {
	t.Helper()
	r := decodeFrame(t, frame)
	encoding := EncodingJSON
	if want.Encoding == "ROCKETMQ" {
		encoding = EncodingBinary
	}
	if r.Code != want.Code || r.Version != want.Version || r.Opaque != want.Opaque || r.Flag != want.Flag ||
		LanguageName(r.Language) != want.Language || string(r.Remark) != want.Remark ||
		len(r.Body) != want.BodySize || r.Encoding != encoding {
		t.Errorf("line %d: decoded to code %d version %d opaque %d flag %d language %s remark %q body %d, want %+v",
			line, r.Code, r.Version, r.Opaque, r.Flag, LanguageName(r.Language), r.Remark, len(r.Body), want)
	}
	if got := fieldsOf(&r); !maps.Equal(got, want.Ext) {
		t.Errorf("line %d: fields %q, want %q", line, got, want.Ext)
	}
	if (want.Kind == "response") != r.IsResponse() || (want.Kind == "oneway") != r.OneWay() {
		t.Errorf("line %d: a %s has flag %d", line, want.Kind, r.Flag)
	}
	// A binary frame of a release that reports our version comes out of our
	// encoder as it went in: the form leaves no choice but the fields' order.
	if encoding == EncodingBinary && r.Version == Version {
		var h header
		h.reset(encoding, r.Code, r.Opaque, r.Flag)
		h.language = r.Language
		h.remark = string(r.Remark)
		for _, f := range r.Fields {
			h.bytes(string(f.Key), f.Value)
		}
		if got, ok := h.appendFrame(nil, r.Body); !ok || !bytes.Equal(got, frame) {
			t.Errorf("line %d: encoded to\n%x, want\n%x", line, got, frame)
		}
	}
}
