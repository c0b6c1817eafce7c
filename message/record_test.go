package message

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func sample() Message {
	return Message{
		Topic: "orders", QueueID: 3, Flag: 7, SysFlag: FlagCompressed, BornTimestamp: 1700000000000,
		BornHost: netip.MustParseAddrPort("10.0.0.1:4242"), StoreTimestamp: 1700000000123,
		StoreHost: netip.MustParseAddrPort("127.0.0.1:10911"), ReconsumeTimes: 2, PreparedPosition: 99,
		Body: []byte("hello"), Properties: Properties("TAGS\x01TagA\x02"), QueueOffset: 12, Position: 4096,
	}
}

// The bytes are laid out by hand from the table in format.go.
func TestRecordBytes(t *testing.T) {
	m := sample()
	rec, err := AppendRecord(nil, &m)
	if err != nil {
		t.Fatal(err)
	}
	want := "00000070" + "daa320a7" + "3610a686" + "00000003" + "00000007" + "000000000000000c" + "0000000000001000" +
		"00000001" + "0000018bcfe56800" + "0a00000100001092" + "0000018bcfe5687b" + "7f00000100002a9f" +
		"00000002" + "0000000000000063" + "00000005" + hex.EncodeToString([]byte("hello")) +
		"06" + hex.EncodeToString([]byte("orders")) + "000a" + hex.EncodeToString([]byte("TAGS\x01TagA\x02"))
	if got := hex.EncodeToString(rec); got != want {
		t.Errorf("record\n got %s\nwant %s", got, want)
	}
	if len(rec) != RecordSize(&m) {
		t.Errorf("RecordSize %d, encoded %d", RecordSize(&m), len(rec))
	}
}

func TestEmptyBodyHasCRCZero(t *testing.T) {
	if got := BodyCRC(nil); got != 0 {
		t.Errorf("BodyCRC(nil) = %d", got)
	}
	if got := BodyCRC([]byte("\xff\xff\xff\xff")); got != 0x7FFFFFFF {
		t.Errorf("the checksum keeps its sign bit: %#x", got)
	}
}

func TestLongTopicUsesV2(t *testing.T) {
	for _, n := range []int{127, 128, 255} {
		m := sample()
		m.Topic = strings.Repeat("t", n)
		rec, err := AppendRecord(nil, &m)
		if err != nil {
			t.Fatal(err)
		}
		_, magic, _ := PeekSize(rec)
		if want := map[bool]uint32{true: MagicV2, false: MagicV1}[n > 127]; magic != want {
			t.Errorf("topic of %d: magic %#x, want %#x", n, magic, want)
		}
		v, err := Parse(rec)
		if err != nil || string(v.Topic()) != m.Topic || string(v.Properties()) != string(m.Properties) {
			t.Errorf("topic of %d does not come back: %v", n, err)
		}
	}
}

func TestAppendRecordRefuses(t *testing.T) {
	m := sample()
	m.Properties = make([]byte, MaxPropertiesSize+1)
	dst := []byte("before")
	got, err := AppendRecord(dst, &m)
	if !errors.Is(err, ErrTooLarge) || string(got) != "before" {
		t.Errorf("got %q, %v; want the slice unchanged and ErrTooLarge", got, err)
	}
}

func TestRecordComesBack(t *testing.T) {
	addr := func(t *rapid.T, name string) netip.AddrPort {
		port := rapid.Uint16().Draw(t, name+"port")
		if rapid.Bool().Draw(t, name+"v6") {
			raw := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name)
			raw[0] = 0x20 // not an IPv4 address in IPv6 clothes
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte(raw)), port)
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, name))), port)
	}
	rapid.Check(t, func(t *rapid.T) {
		m := Message{
			Topic: rapid.StringMatching(`[a-zA-Z0-9_%-]{1,200}`).Draw(t, "topic"), QueueID: rapid.Int32().Draw(t, "queue"),
			Flag: rapid.Int32().Draw(t, "flag"), SysFlag: SysFlag(rapid.Int32Range(0, 15).Draw(t, "sysflag")),
			BornTimestamp: rapid.Int64().Draw(t, "born"), BornHost: addr(t, "bornhost"), StoreHost: addr(t, "storehost"),
			ReconsumeTimes: rapid.Int32().Draw(t, "reconsume"), PreparedPosition: Position(rapid.Int64().Draw(t, "prepared")),
			Body: rapid.SliceOf(rapid.Byte()).Draw(t, "body"), Properties: rapid.SliceOf(rapid.Byte()).Draw(t, "properties"),
		}
		rec, err := AppendRecord([]byte("xx"), &m)
		if err != nil {
			t.Fatal(err)
		}
		rec = rec[2:]
		Patch(rec, 77, 88, 99)
		m.QueueOffset, m.Position, m.StoreTimestamp = 77, 88, 99
		v, err := Parse(append(rec, "next record"...))
		if err != nil {
			t.Fatal(err)
		}
		if err := v.VerifyBody(); err != nil {
			t.Fatal(err)
		}
		got := v.Message()
		got.SysFlag &^= FlagBornV6 | FlagStoreV6
		if got.Topic != m.Topic || got.QueueID != m.QueueID || got.Flag != m.Flag || got.SysFlag != m.SysFlag ||
			got.BornTimestamp != m.BornTimestamp || got.BornHost != m.BornHost || got.StoreHost != m.StoreHost ||
			got.StoreTimestamp != 99 || got.QueueOffset != 77 || got.Position != 88 || got.ReconsumeTimes != m.ReconsumeTimes ||
			got.PreparedPosition != m.PreparedPosition || !bytes.Equal(got.Body, m.Body) || !bytes.Equal(got.Properties, m.Properties) {
			t.Fatalf("got %+v\nwant %+v", got, m)
		}
	})
}

func TestVerifyBodySeesAFlippedBit(t *testing.T) {
	m := sample()
	rec, _ := AppendRecord(nil, &m)
	v, err := Parse(rec)
	if err != nil {
		t.Fatal(err)
	}
	v.Body()[2] ^= 4
	if err := v.VerifyBody(); !errors.Is(err, ErrCRC) {
		t.Errorf("got %v, want ErrCRC", err)
	}
}

func TestParseRefuses(t *testing.T) {
	m := sample()
	good, _ := AppendRecord(nil, &m)
	edit := func(at int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[at:], b)
		return c
	}
	blank := make([]byte, 64)
	PutBlank(blank, 64)
	for _, row := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, ErrShort},
		{"seven bytes", good[:7], ErrShort},
		{"cut short", good[:len(good)-1], ErrShort},
		{"zeros", make([]byte, 200), ErrMagic},
		{"filler", blank, ErrBlank},
		{"size too small", edit(0, 0, 0, 0, 50), ErrLayout},
		{"negative size", edit(0, 0xff), ErrLayout},
		{"body longer than the record", edit(84, 0, 0, 1, 0), ErrLayout},
		{"negative body length", edit(84, 0xff), ErrLayout},
		{"topic longer than the record", edit(84+4+5, 0x7f), ErrLayout},
		{"wide host in a narrow record", edit(39, 0x10), ErrLayout},
	} {
		if _, err := Parse(row.in); !errors.Is(err, row.want) {
			t.Errorf("%s: got %v, want %v", row.name, err, row.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	m := sample()
	rec, _ := AppendRecord(nil, &m)
	f.Add(rec)
	m.Topic = strings.Repeat("x", 200)
	m.BornHost = netip.MustParseAddrPort("[2001:db8::1]:1")
	rec, _ = AppendRecord(nil, &m)
	f.Add(rec)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Parse(b)
		if err != nil {
			return
		}
		got := v.Message()
		_ = v.VerifyBody()
		_ = got.Properties.Map()
		again, err := AppendRecord(nil, &got)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(again); err != nil {
			t.Fatalf("what was decoded does not encode to a record: %v", err)
		}
	})
}

func FuzzBatch(f *testing.F) {
	f.Add(AppendBatchItem(nil, BatchItem{Flag: 1, Body: []byte("b"), Properties: Properties("a\x01b\x02")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			_, rest, err := NextBatchItem(b)
			if err != nil {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("a batch item took no bytes")
			}
			b = rest
		}
	})
}

func TestBatchComesBack(t *testing.T) {
	items := []BatchItem{{1, []byte("one"), Properties("k\x01v\x02")}, {2, nil, nil}, {3, make([]byte, 3000), nil}}
	var b []byte
	for _, it := range items {
		b = AppendBatchItem(b, it)
	}
	for i, want := range items {
		got, rest, err := NextBatchItem(b)
		if err != nil || got.Flag != want.Flag || !bytes.Equal(got.Body, want.Body) || !bytes.Equal(got.Properties, want.Properties) {
			t.Fatalf("item %d: %+v, %v", i, got, err)
		}
		b = rest
	}
	if len(b) != 0 {
		t.Errorf("%d bytes left", len(b))
	}
	if _, _, err := NextBatchItem([]byte{1, 2, 3}); !errors.Is(err, ErrShort) {
		t.Errorf("got %v, want ErrShort", err)
	}
}

func TestProperties(t *testing.T) {
	for _, row := range []struct {
		in   string
		want map[string]string
	}{
		{"", map[string]string{}},
		{"a\x01b\x02", map[string]string{"a": "b"}},
		{"a\x01b", map[string]string{"a": "b"}},
		{"a\x01b\x02c\x01d", map[string]string{"a": "b", "c": "d"}},
		{"a\x01\x02c\x01d\x02", map[string]string{"c": "d"}},
		{"\x01b\x02c\x01d\x02", map[string]string{"c": "d"}},
		{"ab\x02c\x01d\x02", map[string]string{"c": "d"}},
		{"a\x011\x02a\x012\x02", map[string]string{"a": "2"}},
		{"a\x011\x01x\x02", map[string]string{"a": "1\x01x"}},
	} {
		got := Properties(row.in).Map()
		if len(got) != len(row.want) {
			t.Errorf("%q: got %q, want %q", row.in, got, row.want)
		}
		for k, v := range row.want {
			if got[k] != v || Properties(row.in).Value(k) != v {
				t.Errorf("%q: %s = %q, want %q", row.in, k, got[k], v)
			}
		}
	}
	p := Properties("a\x01b")
	if got := string(p.Append("c", "d")); got != "a\x01b\x02c\x01d\x02" {
		t.Errorf("Append to an open end: %q", got)
	}
	if got := string(Properties("a\x011\x02b\x012\x02").Set("a", "9")); got != "b\x012\x02a\x019\x02" {
		t.Errorf("Set: %q", got)
	}
	var keys []string
	for k := range Properties("KEYS\x01 k1  k2\x02").Keys() {
		keys = append(keys, string(k))
	}
	if strings.Join(keys, ",") != "k1,k2" {
		t.Errorf("keys %q", keys)
	}
}

// Values from Java: "x".hashCode().
func TestJavaHash(t *testing.T) {
	for text, want := range map[string]int32{
		"": 0, "a": 97, "TagA": 2598919, "d": 100, "polygenelubricants": -2147483648, "中文": 646394, "😀": 1772899, "é": 233,
	} {
		if got := JavaHash(text); got != want {
			t.Errorf("JavaHash(%q) = %d, want %d", text, got, want)
		}
		if got := JavaHash([]byte(text)); got != want {
			t.Errorf("JavaHash([]byte(%q)) = %d, want %d", text, got, want)
		}
	}
	if got := TagCode("polygenelubricants"); got != -2147483648 {
		t.Errorf("TagCode is not sign-extended: %d", got)
	}
}

func TestOffsetID(t *testing.T) {
	host := netip.MustParseAddrPort("127.0.0.1:10911")
	id := OffsetID(host, 4096)
	if id != "7F00000100002A9F0000000000001000" {
		t.Errorf("got %s", id)
	}
	for _, h := range []netip.AddrPort{host, netip.MustParseAddrPort("[2001:db8::7]:9")} {
		gotHost, pos, err := ParseOffsetID(OffsetID(h, 1<<40))
		if err != nil || gotHost != h || pos != 1<<40 {
			t.Errorf("%v: got %v %d %v", h, gotHost, pos, err)
		}
	}
	for _, bad := range []string{"", "0", strings.Repeat("0", 31), strings.Repeat("z", 32)} {
		if _, _, err := ParseOffsetID(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestUniqueIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		ids := NewUniqueIDs(netip.MustParseAddr("10.1.2.3"), 5)
		seen := map[string]bool{}
		for range 1000 {
			id := ids.Next(now)
			if len(id) != 32 || !strings.HasPrefix(id, "0A010203") || seen[id] {
				t.Fatalf("bad or repeated id %q", id)
			}
			seen[id] = true
			born, ok := UniqueIDTime(id, now.Add(20*24*time.Hour))
			if !ok || born.UnixMilli() != now.UnixMilli() {
				t.Fatalf("%q: born %v, want %v", id, born, now)
			}
		}
	})
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"orders": true, "A_b-1%|": true, "": false, "  ": false, "a b": false, "a.b": false, "中": false,
		strings.Repeat("t", 127): true, strings.Repeat("t", 128): false,
		"%RETRY%" + strings.Repeat("t", 248): true, "%DLQ%" + strings.Repeat("t", 251): false,
	} {
		if err := CheckTopicName(name); (err == nil) != ok {
			t.Errorf("topic %q: %v", name, err)
		}
	}
	if err := CheckGroupName(strings.Repeat("g", 121)); err == nil {
		t.Error("a group of 121 characters was taken")
	}
	if !IsSystemTopic("rmq_sys_x") || IsSystemTopic("orders") || !ForbidsSend(TopicHalf) || ForbidsSend(TopicTimer) {
		t.Error("system topics")
	}
}
