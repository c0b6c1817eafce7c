package remoting

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// frameOf builds a frame around a header by hand.
func frameOf(encoding byte, header, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(header))|uint32(encoding)<<24)
	return append(append(b, header...), body...)
}

func jsonFrame(header, body string) []byte { return frameOf(EncodingJSON, header, body) }

func decodeFrame(t testing.TB, frame []byte) Request {
	t.Helper()
	n, err := frameLength(frame, 16<<20)
	if err != nil || n+4 != len(frame) {
		t.Fatalf("frame length %d, %v; the frame has %d bytes", n, err, len(frame))
	}
	var d Decoder
	var r Request
	if err := d.Decode(bytes.Clone(frame[4:]), &r); err != nil {
		t.Fatalf("decode %q: %v", frame, err)
	}
	return r
}

func fieldsOf(r *Request) map[string]string {
	m := map[string]string{}
	for _, f := range r.Fields {
		m[string(f.Key)] = string(f.Value)
	}
	return m
}

// The binary example is Apache's, recorded in the protocol notes: request 105,
// opaque 7, topic=T, version 479.
func TestGoldenBinaryRequest(t *testing.T) {
	const golden = "00000025" + "01000021" + "0069" + "00" + "01df" + "00000007" + "00000000" +
		"00000000" + "0000000c" + "0005" + "746f706963" + "00000001" + "54"
	frame, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	if len(frame) != 41 {
		t.Fatalf("the example has 41 bytes, not %d", len(frame))
	}
	r := decodeFrame(t, frame)
	if r.Code != ReqGetRouteInfoByTopic || r.Opaque != 7 || r.Version != 479 || r.Language != LangJava || r.Flag != 0 ||
		r.Encoding != EncodingBinary || len(r.Body) != 0 || len(r.Fields) != 1 {
		t.Fatalf("decoded to %+v", r)
	}
	if v, ok := r.Get("topic"); !ok || string(v) != "T" {
		t.Fatalf("topic is %q, %v", v, ok)
	}
	// The same request from our encoder differs in the version alone.
	var h header
	h.reset(EncodingBinary, ReqGetRouteInfoByTopic, 7, 0)
	h.str("topic", "T")
	ours, ok := h.appendFrame(nil, nil)
	binary.BigEndian.PutUint16(frame[11:], Version)
	if !ok || !bytes.Equal(ours, frame) {
		t.Fatalf("encoded to\n%x, want\n%x", ours, frame)
	}
}

func TestGoldenJSONResponse(t *testing.T) {
	var h header
	h.reset(EncodingJSON, RespSystemError, 42, flagResponse)
	h.str("msgId", "a<b>&\"\\\n\x01é")
	h.int("queueOffset", -5)
	h.remark = "no\ttopic"
	got, ok := h.appendFrame(nil, []byte("body"))
	want := jsonFrame(`{"code":1,"extFields":{"msgId":"a<b>&\"\\\n\u0001é","queueOffset":"-5"},"flag":1,"language":"JAVA","opaque":42,"remark":"no\ttopic","serializeTypeCurrentRPC":"JSON","version":513}`, "body")
	if !ok || !bytes.Equal(got, want) {
		t.Fatalf("encoded to\n%q, want\n%q", got, want)
	}
	if versionText != strconv.Itoa(Version) {
		t.Fatalf("versionText is %s, Version %d", versionText, Version)
	}
}

func TestJSONHeaders(t *testing.T) {
	const sur = `\ud83d\ude00`
	tests := []struct {
		name, header string
		want         Request
		fields       map[string]string
	}{
		{"as Java sends it", `{"code":310,"extFields":{"a":"g","e":"0","i":"KEYS\u0001k\u0002"},"flag":0,"language":"JAVA","opaque":9,"serializeTypeCurrentRPC":"JSON","version":513}`,
			Request{Code: 310, Opaque: 9, Version: 513, Language: LangJava}, map[string]string{"a": "g", "e": "0", "i": "KEYS\x01k\x02"}},
		{"as client-go sends it", `{"code":34,"language":"GO","version":317,"opaque":1,"flag":0,"remark":"","extFields":{}}`,
			Request{Code: 34, Opaque: 1, Version: 317, Language: LangGo}, map[string]string{}},
		{"white space", " \t{ \"code\" : 11 ,\r\n \"opaque\":\n2 , \"extFields\" : { \"x\" : \"y\" , \"z\":\"\" } }  ",
			Request{Code: 11, Opaque: 2, Language: LangUnknown}, map[string]string{"x": "y", "z": ""}},
		{"values that are no strings", `{"extFields":{"n":12,"f":-1.5e3,"t":true,"no":null,"o":{"a":[1,"}"]},"l":[1,2]},"code":"10"}`,
			Request{Code: 10, Language: LangUnknown}, map[string]string{"n": "12", "f": "-1.5e3", "t": "true", "o": `{"a":[1,"}"]}`, "l": "[1,2]"}},
		{"nulls", `{"code":1,"extFields":null,"remark":null,"language":null,"opaque":3,"flag":1}`,
			Request{Code: 1, Opaque: 3, Flag: 1, Language: LangUnknown}, map[string]string{}},
		{"unknown members", `{"x":{"y":[{"z":"\"}"}]},"code":5,"w":[[],{}],"v":-0.5,"u":"\\","opaque":6}`,
			Request{Code: 5, Opaque: 6, Language: LangUnknown}, map[string]string{}},
		{"escapes", `{"opaque":-1,"remark":"\/\b\f\n\r\t\"\\é` + sur + `\ud83dx","language":9}`,
			Request{Opaque: -1, Language: LangGo, Remark: []byte("/\b\f\n\r\t\"\\é😀\uFFFDx")}, map[string]string{}},
		{"number with zeros behind the point", `{"code":12.0,"opaque":2147483647}`,
			Request{Code: 12, Opaque: 2147483647, Language: LangUnknown}, map[string]string{}},
		{"unknown language", `{"language":"COBOL"}`, Request{Language: LangUnknown}, map[string]string{}},
		{"empty", `{}`, Request{Language: LangUnknown}, map[string]string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := decodeFrame(t, jsonFrame(tt.header, "B"))
			if string(r.Body) != "B" || r.Encoding != EncodingJSON {
				t.Errorf("body %q, encoding %d", r.Body, r.Encoding)
			}
			if r.Code != tt.want.Code || r.Opaque != tt.want.Opaque || r.Version != tt.want.Version ||
				r.Flag != tt.want.Flag || r.Language != tt.want.Language || string(r.Remark) != string(tt.want.Remark) {
				t.Errorf("decoded to %+v, want %+v", r, tt.want)
			}
			if got := fieldsOf(&r); !maps.Equal(got, tt.fields) {
				t.Errorf("fields are %q, want %q", got, tt.fields)
			}
		})
	}
}

func TestBadHeaders(t *testing.T) {
	bin := func(tail string) string {
		return "\x00\x0a\x00\x02\x01\x00\x00\x00\x07\x00\x00\x00\x00" + tail
	}
	tests := []struct {
		name     string
		encoding byte
		header   string
		opaque   int32 // -1: cannot be known
		reason   string
	}{
		{"not an object", 0, `[1]`, -1, "not a JSON object"},
		{"nothing", 0, ``, -1, "not a JSON object"},
		{"null", 0, `null`, -1, "not a JSON object"},
		{"broken behind the opaque", 0, `{"opaque":7,"code":`, 7, "32 bits"},
		{"broken before the opaque", 0, `{"code":x,"opaque":7}`, 7, "32 bits"},
		{"opaque too large", 0, `{"opaque":2147483648}`, -1, "32 bits"},
		{"no closing brace", 0, `{"opaque":7`, 7, "brace is missing"},
		{"text behind", 0, `{"opaque":7}x`, 7, "behind its closing brace"},
		{"trailing comma", 0, `{"opaque":7,}`, 7, "name is missing"},
		{"open string", 0, `{"opaque":7,"remark":"abc`, 7, "not closed"},
		{"bad escape", 0, `{"opaque":7,"remark":"\x"}`, 7, "escape"},
		{"bad unicode", 0, `{"opaque":7,"remark":"\u12g4"}`, 7, "four hexadecimal"},
		{"fields are a list", 0, `{"opaque":7,"extFields":[]}`, 7, "not an object"},
		{"no value", 0, `{"opaque":7,"x":}`, 7, "value is missing"},
		{"unknown encoding", 9, `{"opaque":7}`, -1, "neither JSON"},
		{"binary too short", 1, "\x00\x0a", -1, "shorter"},
		{"binary remark too long", 1, bin("\x00\x00\x00\x09\x00\x00\x00\x00"), 7, "remark is longer"},
		{"binary remark negative", 1, bin("\xff\xff\xff\xff\x00\x00\x00\x00"), 7, "remark is longer"},
		{"binary fields too long", 1, bin("\x00\x00\x00\x00\x00\x00\x00\x05"), 7, "fields are longer"},
		{"binary key too long", 1, bin("\x00\x00\x00\x00\x00\x00\x00\x07\x00\x02ab\x00\x00\x00"), 7, "key is longer"},
		{"binary key negative", 1, bin("\x00\x00\x00\x00\x00\x00\x00\x07\xff\xffab\x00\x00\x00"), 7, "key is longer"},
		{"binary value too long", 1, bin("\x00\x00\x00\x00\x00\x00\x00\x07\x00\x01a\x00\x00\x00\x01"), 7, "value is longer"},
		{"binary key cut", 1, bin("\x00\x00\x00\x00\x00\x00\x00\x01\x00"), 7, "cut off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d Decoder
			var r Request
			err := d.Decode(frameOf(tt.encoding, tt.header, "")[4:], &r)
			var bad *HeaderError
			if !errors.As(err, &bad) {
				t.Fatalf("error is %v", err)
			}
			if !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("error is %q, want it to say %q", err, tt.reason)
			}
			if bad.HasOpaque != (tt.opaque >= 0) || bad.HasOpaque && bad.Opaque != tt.opaque {
				t.Errorf("opaque is %d, %v; want %d", bad.Opaque, bad.HasOpaque, tt.opaque)
			}
		})
	}
}

func TestFrameLength(t *testing.T) {
	be := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	tests := []struct {
		in   []byte
		want int
		err  string
	}{
		{be(4), 4, ""},
		{be(16<<20 - 4), 16<<20 - 4, ""},
		{be(16<<20 - 3), 0, "above the limit"},
		{be(3), 0, "too short"},
		{be(0xffffffff), 0, "above the limit"},
		{[]byte{0x16, 3, 1, 2}, 0, "TLS"},
		{[]byte("GET /"), 0, "HTTP"},
	}
	for _, tt := range tests {
		n, err := frameLength(tt.in, 16<<20)
		if n != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("frameLength(%x) = %d, %v; want %d, %q", tt.in, n, err, tt.want, tt.err)
		}
	}
	var d Decoder
	var r Request
	var broken *FramingError
	if err := d.Decode([]byte{0, 0, 0, 5, '{', '}'}, &r); !errors.As(err, &broken) {
		t.Errorf("a header longer than its frame gives %v", err)
	}
}

func TestFieldGetters(t *testing.T) {
	r := decodeFrame(t, jsonFrame(`{"code":10,"extFields":{"i":"-12","big":"2147483648","t":"TRUE","f":"false","bad":"1x","empty":"","twice":"1","twice":"2"}}`, ""))
	if n, err := r.Int32("i"); n != -12 || err != nil {
		t.Error(n, err)
	}
	if n, err := r.Int64("big"); n != 1<<31 || err != nil {
		t.Error(n, err)
	}
	if b, err := r.Bool("t"); !b || err != nil {
		t.Error(b, err)
	}
	if b, err := r.Bool("f"); b || err != nil {
		t.Error(b, err)
	}
	if s, err := r.String("twice"); s != "2" || err != nil {
		t.Error(s, err)
	}
	if n, err := r.Int32Or("absent", 7); n != 7 || err != nil {
		t.Error(n, err)
	}
	if n, err := r.Int64Or("empty", 8); n != 8 || err != nil {
		t.Error(n, err)
	}
	for _, tt := range []struct {
		field   string
		get     func(string) error
		missing bool
	}{
		{"absent", func(k string) error { _, err := r.Int32(k); return err }, true},
		{"empty", func(k string) error { _, err := r.String(k); return err }, true},
		{"bad", func(k string) error { _, err := r.Int64(k); return err }, false},
		{"big", func(k string) error { _, err := r.Int32(k); return err }, false},
		{"i", func(k string) error { _, err := r.Bool(k); return err }, false},
		{"bad", func(k string) error { _, err := r.BoolOr(k, true); return err }, false},
	} {
		var fe *FieldError
		if err := tt.get(tt.field); !errors.As(err, &fe) || fe.Missing != tt.missing || fe.Field != tt.field ||
			!strings.Contains(err.Error(), strconv.Quote(tt.field)) || !strings.Contains(err.Error(), "SEND_MESSAGE") {
			t.Errorf("%s: %v", tt.field, err)
		}
	}
}

func TestParseInt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64().Draw(t, "n")
		if got, ok := ParseInt([]byte(strconv.FormatInt(n, 10))); !ok || got != n {
			t.Fatalf("%d read as %d, %v", n, got, ok)
		}
		s := rapid.StringMatching(`[-+]?[0-9a]{0,21}`).Draw(t, "s")
		want, err := strconv.ParseInt(s, 10, 64)
		got, ok := ParseInt([]byte(s))
		if ok != (err == nil) || ok && got != want {
			t.Fatalf("%q read as %d, %v; want %d, %v", s, got, ok, want, err)
		}
	})
}

func drawHeader(t *rapid.T, encoding byte) (*header, map[string]string) {
	text := rapid.String()
	h := new(header)
	h.reset(encoding, int(rapid.Int16().Draw(t, "code")), rapid.Int32().Draw(t, "opaque"), rapid.Int32().Draw(t, "flag"))
	h.language = byte(rapid.IntRange(0, len(languages)-1).Draw(t, "language"))
	h.remark = text.Draw(t, "remark")
	fields := rapid.MapOfN(rapid.StringN(1, -1, 99), text, 0, 12).Draw(t, "fields")
	for k, v := range fields {
		h.str(k, v)
	}
	return h, fields
}

func TestRoundTrip(t *testing.T) {
	for _, encoding := range []byte{EncodingJSON, EncodingBinary} {
		t.Run(fmt.Sprint(encoding), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				h, fields := drawHeader(t, encoding)
				body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
				frame, ok := h.appendFrame([]byte("before"), body)
				if !ok {
					t.Fatal("not encoded")
				}
				frame = frame[len("before"):]
				if encoding == EncodingJSON {
					n := binary.BigEndian.Uint32(frame[4:]) & maxHeader
					if !json.Valid(frame[8 : 8+n]) {
						t.Fatalf("not JSON: %q", frame[8:8+n])
					}
				}
				var d Decoder
				var r Request
				if err := d.Decode(frame[4:], &r); err != nil {
					t.Fatal(err)
				}
				if r.Code != h.code || r.Opaque != h.opaque || r.Flag != h.flag || r.Language != h.language ||
					r.Version != Version || string(r.Remark) != h.remark || !bytes.Equal(r.Body, body) {
					t.Fatalf("%+v came back as %+v", h, r)
				}
				if got := fieldsOf(&r); !maps.Equal(got, fields) {
					t.Fatalf("fields %q came back as %q", fields, got)
				}
			})
		})
	}
}

// Whatever encoding/json makes of strings, the scanner reads the same.
func TestJSONStringsAsTheLibraryHasThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "fields")
		text, err := json.MarshalIndent(map[string]any{"extFields": want, "opaque": 5}, " ", "\t")
		if err != nil {
			t.Fatal(err)
		}
		var d Decoder
		var r Request
		if err := d.Decode(jsonFrame(string(text), "")[4:], &r); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if got := fieldsOf(&r); !maps.Equal(got, want) || r.Opaque != 5 {
			t.Fatalf("read %q, want %q", got, want)
		}
	})
}

func TestCodeNames(t *testing.T) {
	if got := CodeName(ReqSendMessageV2); got != "SEND_MESSAGE_V2" {
		t.Error(got)
	}
	if got := CodeName(-77); got != "-77" {
		t.Error(got)
	}
	if got := ResponseName(RespTopicNotExist); got != "TOPIC_NOT_EXIST" {
		t.Error(got)
	}
	for b := range byte(len(languages)) {
		if languageOf([]byte(LanguageName(b))) != b {
			t.Errorf("language %d", b)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte(jsonFrame(`{"code":10,"opaque":1}`, "x")))
	f.Add(frameOf(EncodingBinary, "\x00\x0a\x00\x02\x01\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x01ab\x00\x00\x00", ""))
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, in []byte) {
		b := bytes.Clone(in)
		var d Decoder
		var r Request
		for len(b) >= 4 {
			n, err := frameLength(b, 1<<20)
			if err != nil || len(b)-4 < n {
				return
			}
			body := 0
			if err := d.Decode(b[4:4+n], &r); err == nil {
				for _, fd := range r.Fields {
					body += len(fd.Key) + len(fd.Value)
				}
				if body+len(r.Body)+len(r.Remark) > n {
					t.Fatalf("more came out than went in: %+v", r)
				}
			}
			b = b[4+n:]
		}
	})
}

func FuzzJSONHeader(f *testing.F) {
	f.Add(`{"code":310,"extFields":{"a":"g","i":"K\u0001k\u0002","n":1,"o":{"x":[]}},"flag":0,"language":"JAVA","opaque":9,"remark":null}`)
	f.Add(`{"opaque":7,"remark":"\ud83d\ude00\ud83d"`)
	f.Fuzz(func(t *testing.T, text string) {
		var d Decoder
		var r Request
		err := d.Decode(jsonFrame(text, "body")[4:], &r)
		if err == nil && string(r.Body) != "body" {
			t.Fatalf("unescaping reached the body: %q", r.Body)
		}
		// What the strict library accepts as a flat header, we read alike.
		var want struct {
			Code   *int32            `json:"code"`
			Opaque *int32            `json:"opaque"`
			Ext    map[string]string `json:"extFields"`
		}
		var exact map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &exact) != nil || exact == nil || json.Unmarshal([]byte(text), &want) != nil || strings.Count(text, `"extFields"`) > 1 {
			return
		}
		for k := range exact {
			if l := strings.ToLower(k); l != k && (l == "code" || l == "opaque" || l == "extfields" && k != "extFields") {
				return // the library does not tell case apart
			}
			switch k {
			case "version", "flag", "language", "remark", "extfields":
				return
			}
		}
		if strings.ContainsRune(text, 0xFFFD) || !isUTF8(text) || strings.Contains(text, `\u`) {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for k, v := range want.Ext {
			if got, ok := r.Get(k); ok && string(got) != v {
				t.Fatalf("%q: field %q is %q, want %q", text, k, got, v)
			}
		}
	})
}

func isUTF8(s string) bool { return strings.ToValidUTF8(s, "") == s }

func FuzzBinaryHeader(f *testing.F) {
	f.Add([]byte("\x00\x0a\x00\x02\x01\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00\x01a\x00\x00\x00\x01b"))
	f.Fuzz(func(t *testing.T, head []byte) {
		var d Decoder
		var r Request
		if err := d.Decode(frameOf(EncodingBinary, string(head), "")[4:], &r); err != nil {
			return
		}
		// A header that was read is written back the same, but for the version.
		var h header
		h.reset(EncodingBinary, r.Code, r.Opaque, r.Flag)
		h.remark = string(r.Remark)
		for _, fd := range r.Fields {
			h.str(string(fd.Key), string(fd.Value))
		}
		got := h.append(nil)
		got[2] = head[2]
		copy(got[3:5], head[3:5])
		if !bytes.HasPrefix(head, got) {
			t.Fatalf("%x came back as %x", head, got)
		}
	})
}

// Fields that were encoded before stand in the frame as the same fields added
// one by one.
func TestFixedFields(t *testing.T) {
	var fs Fields
	fs.Str("MSG_REGION", "a\"b")
	fs.Bool("TRACE_ON", true)
	fixed := fs.Fixed()
	for _, encoding := range []byte{EncodingJSON, EncodingBinary} {
		for _, before := range []bool{false, true} {
			var a, b header
			a.reset(encoding, 0, 7, flagResponse)
			b.reset(encoding, 0, 7, flagResponse)
			if before {
				a.int("queueId", 3)
				b.int("queueId", 3)
			}
			a.fixed(fixed)
			for _, p := range fs {
				b.str(p.Key, p.Value)
			}
			if got, want := a.append(nil), b.append(nil); !bytes.Equal(got, want) {
				t.Errorf("encoding %d: %q, want %q", encoding, got, want)
			}
		}
	}
	var none header
	none.reset(EncodingJSON, 0, 1, flagResponse)
	none.int("n", 1)
	none.fixed(Fields(nil).Fixed())
	if got := none.append(nil); bytes.Contains(got, []byte(`,}`)) {
		t.Errorf("%q", got)
	}
}
