package remoting

import (
	"testing"

	"pgregory.net/rapid"
)

// allPlain must agree with the table, byte for byte.
func TestAllPlain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte("abz09 _\x1f\x00\x01\x02\"\\\x7f\x80\xff")), 0, 40).Draw(t, "bytes")
		want := true
		for _, c := range b {
			want = want && plain[c]
		}
		if got := allPlain(b); got && !want {
			t.Fatalf("allPlain(%q) is true", b)
		}
		if got := string(appendEscaped(nil, b)); want && got != string(b) {
			t.Fatalf("%q was escaped to %q", b, got)
		}
	})
	if !allPlain([]byte("0123456789ABCDEF")) || !allPlain(nil) {
		t.Error("what is plain goes the long way")
	}
}
