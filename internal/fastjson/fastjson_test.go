package fastjson

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

type colour string

func (colour) EnumNames() []string { return []string{"DEEP_RED", "PALE_BLUE"} }

type queue struct {
	Broker string `json:"brokerName"`
	ID     int32  `json:"queueId"`
}

type thing struct {
	Count   int32            `json:"count"`
	Long    int64            `json:"long"`
	Rate    float64          `json:"rate"`
	On      bool             `json:"on" alias:"isOn"`
	Name    string           `json:"name,omitempty"`
	Colour  colour           `json:"colour,omitempty"`
	Bits    []byte           `json:"bits"`
	List    []int32          `json:"list"`
	ByID    map[int64]string `json:"byId"`
	ByQueue map[queue]int64  `json:"byQueue"`
	Raw     Raw              `json:"raw,omitempty"`
	Next    *thing           `json:"next"`
}

type patient struct {
	Retries int32 `json:"retries"`
}

func (p *patient) SetDefaults() { p.Retries = 16 }

func TestReadsWhatOthersWrite(t *testing.T) {
	for _, c := range []struct {
		in   string
		want thing
	}{
		{`{}`, thing{}},
		{` { "count" : 3 , "on":true } `, thing{Count: 3, On: true}},
		{`{count:"3","LONG":"5.0",'isOn':"true",co_unt:4}`, thing{Count: 4, Long: 5, On: true}},
		{`{"long":1763730000123456789,"rate":"1.5","list":["1",2,-3,],}`, thing{Long: 1763730000123456789, Rate: 1.5, List: []int32{1, 2, -3}}},
		{`{"byId":{0:"a","1":"b",-2:"c"}}`, thing{ByID: map[int64]string{0: "a", 1: "b", -2: "c"}}},
		{`{"byQueue":{{"brokerName":"b","queueId":1}:5,{queueId:2,brokerName:"{x}:"}:6}}`, thing{ByQueue: map[queue]int64{{"b", 1}: 5, {"{x}:", 2}: 6}}},
		{`{"byQueue":{"{\"brokerName\":\"b\",\"queueId\":1}":5}}`, thing{ByQueue: map[queue]int64{{"b", 1}: 5}}},
		{`{"colour":"deepRed"}`, thing{Colour: "DEEP_RED"}},
		{`{"colour":1}`, thing{Colour: "PALE_BLUE"}},
		{`{"colour":"green"}`, thing{Colour: "green"}},
		{`{"name":null,"list":null,"byId":null,"next":null,"count":null,"rate":""}`, thing{}},
		{`{"name":"a\"\\\/\n\u00e9\ud83d\ude00\x41` + "\tz\"}", thing{Name: "a\"\\/\né😀A\tz"}},
		{"{\"name\":\"\xff\"}", thing{Name: "\uFFFD"}},
		{`{"unknown":{{"a":[1,{}]}:[{}]},"more":[[],"x",1e9],"count":1}`, thing{Count: 1}},
		{`{"raw":{0:[ 1 ]},"bits":"AQI="}`, thing{Raw: Raw(`{0:[ 1 ]}`), Bits: []byte{1, 2}}},
		{`{"next":{"next":{"count":2}}}`, thing{Next: &thing{Next: &thing{Count: 2}}}},
	} {
		var got thing
		if err := Unmarshal([]byte(c.in), &got); err != nil {
			t.Errorf("%s: %v", c.in, err)
		} else if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.in, got, c.want)
		}
	}
	var list []patient
	if err := Unmarshal([]byte(`[{},{"retries":3}]`), &list); err != nil || list[0].Retries != 16 || list[1].Retries != 3 {
		t.Errorf("defaults: %+v, %v", list, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ in, says string }{
		{``, "found the end"}, {`{`, "found the end"}, {`{"count"`, "':'"}, {`{"count":}`, "a value"}, {`{"count":1`, "',' or '}'"},
		{`{"count":"x"}`, "member count: expected an integer of 32 bits, found \"x\""}, {`{"count":2147483648}`, "32 bits"}, {`{"count":1.5}`, "integer"},
		{`{"long":9223372036854775808}`, "64 bits"}, {`{"on":"maybe"}`, "true or false"}, {`{"list":{}}`, "'['"}, {`{"list":[1,[2]]}`, "member list.1"},
		{`{"byId":{x:"a"}}`, "a key that is an integer"}, {`{"byQueue":{"x":1}}`, "a key is no object"}, {`{"name":"a`, "does not end"}, {`{"name":"\q"}`, "unknown escape 'q'"},
		{`{"name":"\u12"}`, "hexadecimal"}, {`{} x`, "text follows"}, {`{"bits":"!!"}`, "base64"}, {`{"bits":[1]}`, "base64"}, {`{"name":{}}`, "a text"}, {`[]`, "'{'"},
		{strings.Repeat(`{"next":`, 100), "nested too deep"}, {`{"u":` + strings.Repeat(`[`, 1e6), "nested too deep"},
		{`{"byId":{` + strings.Repeat(`1:"",`, 2), "found the end"},
	} {
		var v thing
		err := Unmarshal([]byte(c.in), &v)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.60s: %v, want %q", c.in, err, c.says)
		}
	}
	if err := Unmarshal([]byte(`{}`), thing{}); err == nil {
		t.Error("a value that is no pointer is taken")
	}
	var flood []struct{ A [64]int64 }
	if err := Unmarshal([]byte(`[`+strings.Repeat(`{},`, 1e6)+`]`), &flood); err == nil || len(flood) > 200000 {
		t.Errorf("three bytes for every 512 of memory: %d elements, %v", len(flood), err)
	}
}

func TestWrites(t *testing.T) {
	v := thing{Count: 1, Rate: 2, Name: `<&>"\` + "\n\x01é\u2028\xff", ByID: map[int64]string{10: "b", 9: "a", -1: "z"}, ByQueue: map[queue]int64{{"b", 1}: 5}, Raw: Raw(`{0:1}`), Bits: []byte{1, 2}}
	loose := `{"bits":"AQI=","byId":{-1:"z",9:"a",10:"b"},"byQueue":{{"brokerName":"b","queueId":1}:5},"count":1,"list":[],"long":0,"name":"<&>\"\\\n\u0001é` + "\u2028\uFFFD" + `","on":false,"rate":2.0,"raw":{0:1}}`
	standard := strings.NewReplacer(`-1:`, `"-1":`, `,9:`, `,"9":`, `10:`, `"10":`, `{"brokerName":"b","queueId":1}`, `"{\"brokerName\":\"b\",\"queueId\":1}"`).Replace(loose)
	for style, want := range map[Style]string{Loose: loose, Standard: standard} {
		got, err := Marshal(v, style)
		if err != nil || string(got) != want {
			t.Errorf("style %d, %v:\n got %s\nwant %s", style, err, got, want)
		}
	}
	for in, want := range map[float64]string{0: "0.0", 1.5: "1.5", -3: "-3.0", math.NaN(): "null", math.Inf(1): "null"} {
		if got, err := Marshal(in, Loose); err != nil || string(got) != want {
			t.Errorf("%v is %s, %v", in, got, err)
		}
	}
	if _, err := Marshal(make(chan int), Loose); err == nil {
		t.Error("a channel has a JSON form")
	}
	loop := &thing{}
	loop.Next = loop
	if _, err := Marshal(loop, Loose); err == nil {
		t.Error("a loop has an end")
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"count":"3","byId":{0:"a"},"byQueue":{{"brokerName":"b","queueId":1}:5},"next":{},"list":[1],"colour":1,"raw":[{}]}`))
	f.Add([]byte(`{'name':"\ud83d\ude00\x41",unknown:{{}:1},"bits":"AQI="}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var v thing
		if Unmarshal(in, &v) != nil {
			return
		}
		v.Raw = nil // passed through as it is, so it reads again only where it stood
		for n := v.Next; n != nil; n = n.Next {
			n.Raw = nil
		}
		for _, style := range []Style{Loose, Standard} {
			text, err := Marshal(v, style)
			if err != nil {
				t.Fatalf("%q was read and cannot be written: %v", in, err)
			}
			var again thing
			if err := Unmarshal(text, &again); err != nil {
				t.Fatalf("%q: its own text %q does not read: %v", in, text, err)
			}
			second, err := Marshal(again, style)
			if err != nil || string(second) != string(text) {
				t.Fatalf("%q, %v:\n%s\n%s", in, err, text, second)
			}
		}
	})
}
