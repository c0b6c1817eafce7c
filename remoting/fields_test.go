package remoting

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// manyFields is a header of each encoding with so many fields; quick says
// whether JSON's are written as clients write them.
func manyFields(encoding byte, n int, quick bool) string {
	if encoding == EncodingBinary {
		ext := strings.Repeat("\x00\x00\x00\x00\x00\x00", n)
		return "\x00\x0a\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00" +
			string([]byte{byte(len(ext) >> 24), byte(len(ext) >> 16), byte(len(ext) >> 8), byte(len(ext))}) + ext
	}
	field := `"":"",`
	if !quick {
		field = `"" : 0,`
	}
	return `{"code":10,"opaque":7,"extFields":{` + strings.TrimSuffix(strings.Repeat(field, n), ",") + `}}`
}

// A field costs more memory than it takes on the wire, so a header may have a
// number of them only, whatever the frame has room for.
func TestManyFields(t *testing.T) {
	const flood = 2_000_000 // empty ones, as a header of 16 MB holds
	for _, encoding := range []byte{EncodingJSON, EncodingBinary} {
		for _, quick := range []bool{true, false} {
			if encoding == EncodingBinary && !quick {
				continue
			}
			for _, n := range []int{1, MaxFields, MaxFields + 1, flood} {
				t.Run(fmt.Sprint(encoding, quick, n), func(t *testing.T) {
					var d Decoder
					for range 2 { // fields of frames before do not count
						var r Request
						err := d.Decode(frameOf(encoding, manyFields(encoding, n, quick), "")[4:], &r)
						if n <= MaxFields {
							if err != nil || len(r.Fields) != n {
								t.Fatalf("%d fields, %v", len(r.Fields), err)
							}
							continue
						}
						var bad *HeaderError
						if !errors.As(err, &bad) || !strings.Contains(err.Error(), "1024 fields") || bad.Opaque != 7 || !bad.HasOpaque {
							t.Fatalf("error is %v, want one about the fields of request 7", err)
						}
					}
					if room := cap(d.fields); room > 8*MaxFields {
						t.Errorf("the decoder made room for %d fields", room)
					}
				})
			}
		}
	}
}

// Who sends a header with too many fields is told so and may go on.
func TestManyFieldsCostOnlyTheirFrame(t *testing.T) {
	onBoth(t, func(t *testing.T, o ServerOptions) {
		s := listen(t, handler{serve: echo}, o)
		c := raw(t, s)
		c.Write(frameOf(EncodingBinary, manyFields(EncodingBinary, 200_000, true), "body"))
		c.Write(requestFrame(1, 8, ""))
		if r := readFrame(t, c); r.Opaque != 7 || r.Code != RespSystemError || !strings.Contains(string(r.Remark), "1024 fields") {
			t.Fatalf("answer %d to %d: %s", r.Code, r.Opaque, r.Remark)
		}
		if r := readFrame(t, c); r.Opaque != 8 || r.Code != RespSuccess {
			t.Fatalf("answer %d to %d: %s", r.Code, r.Opaque, r.Remark)
		}
	})
}
