package golden

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Frame is one recorded frame; see test/testdata/frames/README.md.
type Frame struct {
	File        string            `json:"-"`    // conversation, without .jsonl
	Line        int               `json:"-"`    // from 1
	Link        string            `json:"link"` // client-namesrv, client-broker, broker-namesrv
	Conn        int               `json:"conn"`
	Dir         string            `json:"dir"`         // "in": to the side that was dialled, "out": from it
	Kind        string            `json:"kind"`        // request, oneway, response
	Code        int               `json:"code"`        // as in the header; 200050 reads 3442 in a binary one
	RequestCode int               `json:"requestCode"` // of a response: what it answers
	Opaque      int32             `json:"opaque"`
	Flag        int32             `json:"flag"`
	Version     int               `json:"version"`
	Language    string            `json:"language"`
	Encoding    string            `json:"encoding"` // JSON or ROCKETMQ
	Remark      string            `json:"remark"`
	Ext         map[string]string `json:"ext"`
	BodySize    int               `json:"bodySize"`
	Body        json.RawMessage   `json:"body"` // if it is standard JSON
	Hex         string            `json:"hex"`
	Raw         []byte            `json:"-"` // the whole frame with its length
}

// Payload returns the frame's body.
func (f *Frame) Payload() []byte { return f.Raw[len(f.Raw)-f.BodySize:] }

// Frames loads every recorded frame whose file name contains part ("" for all).
func Frames(t testing.TB, part string) []Frame {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(testdata(), "frames", "*.jsonl"))
	if err != nil || len(names) == 0 {
		t.Fatalf("golden: no frames: %v", err)
	}
	var all []Frame
	for _, name := range names {
		base := strings.TrimSuffix(filepath.Base(name), ".jsonl")
		if !strings.Contains(base, part) {
			continue
		}
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(bytes.NewReader(content))
		in.Buffer(nil, 1<<20)
		for line := 1; in.Scan(); line++ {
			f := Frame{File: base, Line: line}
			if err := json.Unmarshal(in.Bytes(), &f); err != nil {
				t.Fatalf("%s:%d: %v", name, line, err)
			}
			if f.Raw, err = hex.DecodeString(f.Hex); err != nil {
				t.Fatalf("%s:%d: %v", name, line, err)
			}
			all = append(all, f)
		}
		if in.Err() != nil {
			t.Fatalf("%s: %v", name, in.Err())
		}
	}
	return all
}
