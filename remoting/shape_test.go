package remoting

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// told is what a decoder makes of a header, as text.
func told(d *Decoder, head string) string {
	var r Request
	d.Reset()
	err := d.Decode(jsonFrame(head, "body")[4:], &r)
	if bad := (*HeaderError)(nil); errors.As(err, &bad) {
		return fmt.Sprintf("%+v", *bad)
	}
	out := fmt.Sprintf("%d %d %d %d %d %q %q %v", r.Code, r.Version, r.Language, r.Opaque, r.Flag, r.Remark, r.Body, err)
	for _, f := range r.Fields {
		out += fmt.Sprintf(" %q=%q", f.Key, f.Value)
	}
	return out
}

// A decoder that has read other headers before reads what a new one reads.
func TestShapesChangeNothing(t *testing.T) {
	bases := []string{
		sendHeader,
		`{"code":11,"language":"GO","version":317,"opaque":9,"flag":0,"remark":"","extFields":{"a":"1","b":"","topic":"t\u0001"}}`,
		`{"code":310,"extFields":{"a":"x","a":"y","n":1,"o":null},"opaque":"12"}`,
		`{"code":34,"opaque":7}`,
		`{"code":34,"extFields":{"a":"\u0001"}}`,
		`{"code":34,"extFields":{},"opaque":7,"opaque":8}`,
		`{"code":34,"opaque":1,"opaque" :2}`,
		`{"code":34,"extFields":{"opaque":"7","k":"\"\\\"","e":"\u0001\u0002\u0003","f":"\n","g":"\/","h":"\t","i":"\r"},"opaque":2147483647}`,
	}
	pieces := []string{`"`, `\`, `\\`, `\"`, `\u0001`, `\u00`, `\ud83d`, `,`, `}`, `{`, `:`, ` `, `x`, `7`, `99999999999`, `2147483648`, `-`, `"opaque":5,`, `"k":"v",`, `null`, ``}
	rapid.Check(t, func(t *rapid.T) {
		var d Decoder
		text := rapid.SampledFrom(bases).Draw(t, "base")
		for range rapid.IntRange(1, 60).Draw(t, "headers") {
			if rapid.IntRange(0, 9).Draw(t, "another") == 0 {
				text = rapid.SampledFrom(bases).Draw(t, "base")
			}
			head := text
			for range rapid.IntRange(0, 2).Draw(t, "changes") {
				at := rapid.IntRange(0, len(head)).Draw(t, "at")
				cut := min(at+rapid.IntRange(0, 3).Draw(t, "cut"), len(head))
				head = head[:at] + rapid.SampledFrom(pieces).Draw(t, "piece") + head[cut:]
			}
			var fresh Decoder
			if got, want := told(&d, head), told(&fresh, head); got != want {
				t.Fatalf("%s\nwas read as\n%s, not\n%s", head, got, want)
			}
		}
	})
}

func FuzzShape(f *testing.F) {
	f.Add(sendHeader, strings.ReplaceAll(sendHeader, "12345", "7"))
	f.Add(`{"code":34,"opaque":7}`, `{"code":34,"opaque":70}`)
	f.Add(`{"code":34,"extFields":{"a":"\u0001"},"opaque":7}`, `{"code":34,"extFields":{"a":"\u000"},"opaque":7}`)
	f.Fuzz(func(t *testing.T, before, head string) {
		var d, fresh Decoder
		told(&d, before)
		if got, want := told(&d, head), told(&fresh, head); got != want {
			t.Fatalf("%s\nbehind %s was read as\n%s, not\n%s", head, before, got, want)
		}
	})
}

// What clients send is read by its shape: the second of two sends, with
// another key and opaque.
func TestShapeOfSends(t *testing.T) {
	var d Decoder
	told(&d, sendHeader)
	for _, other := range []string{
		sendHeader,
		strings.NewReplacer("12345", "6", "order-1", "order-22").Replace(sendHeader),
		strings.NewReplacer(`\u0001paid`, `\u0001pa\"id`, `"orders"`, `""`).Replace(sendHeader),
	} {
		s := scanner{b: bytes.Clone([]byte(other))}
		var r Request
		d.Reset()
		p := d.shapeOf(s.b)
		if read, ok := p.read(&d, &s, &r); !read || !ok || len(d.fields) != 13 {
			t.Errorf("%v, %v, %d fields of %s", read, ok, len(d.fields), other)
		}
	}
	if d.shapeOf([]byte(`{"code":310,`+strings.Repeat(" ", maxShape))) != nil {
		t.Error("a long header has a shape")
	}
}
