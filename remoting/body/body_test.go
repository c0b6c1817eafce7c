package body

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestHeartbeatOfClientGo(t *testing.T) {
	const in = `{"clientID":"10.0.0.1@77","producerDataSet":[{"groupName":"P"}],"consumerDataSet":[{"groupName":"G","consumeType":"CONSUME_PASSIVELY","messageModel":"Clustering","consumeFromWhere":"ConsumeFromLastOffset","subscriptionDataSet":[{"classFilterMode":false,"topic":"T","subString":"a || b","tagsSet":["a","b"],"codeSet":["97","98"],"subVersion":1763730000123456789,"expressionType":"TAG"}],"unitMode":false}]}`
	var h HeartbeatData
	if err := Decode([]byte(in), &h); err != nil {
		t.Fatal(err)
	}
	c := h.ConsumerDataSet[0]
	if h.ClientID != "10.0.0.1@77" || c.MessageModel != Clustering || c.ConsumeFromWhere != FromLastOffset || c.ConsumeType != ConsumePassively {
		t.Errorf("%+v", h)
	}
	s := c.SubscriptionDataSet[0]
	if !reflect.DeepEqual(s.CodeSet, []int32{97, 98}) || s.SubVersion != 1763730000123456789 {
		t.Errorf("%+v", s)
	}
}

func TestLooseFormsOfOthers(t *testing.T) {
	var r ConsumeMessageDirectlyResult
	if err := Decode([]byte(`{"order":false,"consumeResult":1}`), &r); err != nil || r.ConsumeResult != "CR_LATER" || !r.AutoCommit {
		t.Errorf("%+v, %v", r, err)
	}
	var info ConsumerRunningInfo
	in := `{"properties":{"PROP_CONSUMEORDERLY":"false"},"subscriptionSet":[],"mqTable": {{"topic":"T","brokerName":"b","queueId":0}: {"commitOffset":5,"dropped":true}},"jstack":"a` + "\n\t" + `b"}`
	if err := Decode([]byte(in), &info); err != nil {
		t.Fatal(err)
	}
	if q := info.MQTable[MessageQueue{"b", 0, "T"}]; !q.Dropped || q.CommitOffset != 5 || info.Jstack != "a\n\tb" {
		t.Errorf("%+v", info)
	}
	var g SubscriptionGroupConfig
	if err := Decode([]byte(`{"groupName":"g"}`), &g); err != nil || g.RetryMaxTimes != 16 || !g.ConsumeEnable {
		t.Errorf("%+v, %v", g, err)
	}
	if got := string(Encode(QueryAssignmentResponse{})); got != `{}` {
		t.Errorf("keep what you have: %s", got)
	}
	if got := string(Encode(QueryAssignmentResponse{Assignments: []MessageQueueAssignment{}})); got != `{"messageQueueAssignments":[]}` {
		t.Errorf("drop everything: %s", got)
	}
}

func sample() *RegisterBrokerBody {
	b := &RegisterBrokerBody{FilterServerList: []string{}}
	b.Topics.DataVersion = DataVersion{Counter: 1, StateVersion: 2, Timestamp: 3}
	order := NewTopicConfig("T")
	order.Attributes = map[string]string{"message.type": "FIFO with space"}
	multi := NewTopicConfig("%RETRY%g")
	multi.TopicFilterType, multi.Perm, multi.ReadQueueNums = MultiTag, 4, 1
	multi.Attributes = map[string]string{}
	b.Topics.TopicConfigTable = map[string]TopicConfig{"T": order, "%RETRY%g": multi}
	b.Topics.TopicQueueMappingInfoMap = map[string]Raw{"T": Raw(`{"bname":"b","currIdMap":{3:3},"topic":"T"}`)}
	return b
}

func TestRegistrationForms(t *testing.T) {
	want := sample()
	for _, version := range []int{413, 513} {
		packed, err := want.Compressed(version)
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"compressed": packed, "JSON": Encode(want)} {
			got, err := DecodeRegisterBroker(data, version)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !reflect.DeepEqual(got.Topics.TopicConfigTable, want.Topics.TopicConfigTable) || got.Topics.DataVersion != want.Topics.DataVersion ||
				string(got.Topics.TopicQueueMappingInfoMap["T"]) != string(want.Topics.TopicQueueMappingInfoMap["T"]) {
				t.Errorf("%s of version %d:\n got %+v\nwant %+v", name, version, got, want)
			}
		}
	}
	old, err := want.Compressed(399)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeRegisterBroker(old, 399); err != nil || len(got.Topics.TopicConfigTable) != 2 {
		t.Errorf("before 5.0: %v", err)
	}
	bare := Encode(want.Topics.TopicConfigSerializeWrapper)
	if got, err := DecodeRegisterBroker(bare, 30); err != nil || len(got.Topics.TopicConfigTable) != 2 {
		t.Errorf("before 3.0.11: %+v, %v", got, err)
	}
	if got, err := DecodeRegisterBroker(nil, 513); err != nil || len(got.Topics.TopicConfigTable) != 0 {
		t.Errorf("no body: %+v, %v", got, err)
	}
	for n := range len(old) - 1 {
		if _, err := DecodeRegisterBroker(old[:n+1], 399); err == nil {
			t.Errorf("%d of %d bytes are taken for a whole registration", n+1, len(old))
		}
	}
}

// TestRegistrationOfApache reads the compressed form as Apache 5.5.0 wrote it.
func TestRegistrationOfApache(t *testing.T) {
	text, err := os.ReadFile("testdata/registration-5.5.0.hex")
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRegisterBroker(data, 513)
	if err != nil {
		t.Fatal(err)
	}
	want := sample()
	retry := got.Topics.TopicConfigTable["%RETRY%g"]
	if got.Topics.DataVersion != want.Topics.DataVersion || !reflect.DeepEqual(retry, want.Topics.TopicConfigTable["%RETRY%g"]) || len(got.Topics.TopicConfigTable) != 2 {
		t.Errorf("got %+v", got.Topics)
	}
	if raw := string(got.Topics.TopicQueueMappingInfoMap["T"]); !strings.Contains(raw, `"bname":"b"`) {
		t.Errorf("mapping: %s", raw)
	}
}

func TestTopicText(t *testing.T) {
	c, err := ParseTopicText("T 4 8 6 MULTI_TAG")
	if err != nil || c.ReadQueueNums != 4 || c.WriteQueueNums != 8 || c.Perm != 6 || c.TopicFilterType != MultiTag {
		t.Errorf("without attributes: %+v, %v", c, err)
	}
	for _, bad := range []string{"", "T", "T 1 2 3", "T x 8 6 SINGLE_TAG", "T 1 2 3 SINGLE_TAG {"} {
		if _, err := ParseTopicText(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestProperties(t *testing.T) {
	in := "# note\n a = b \\\n   c\n\nk:v\nempty\nx\\=y=\\u00e9\\ud83d\\ude00\\\\\r\n!z\na=2"
	want := []Property{{"a", "b c"}, {"k", "v"}, {"empty", ""}, {"x=y", `é😀\`}, {"a", "2"}}
	got, err := ParseProperties([]byte(in))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	again, err := ParseProperties(EncodeProperties(want))
	if err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("written and read: %q, %v", again, err)
	}
	for _, bad := range []string{`a=\u12`, `a=\uzzzz`} {
		if _, err := ParseProperties([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzDecodeRegisterBroker(f *testing.F) {
	packed, err := sample().Compressed(513)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed, 513)
	f.Add(Encode(sample()), 513)
	f.Add(Encode(sample().Topics.TopicConfigSerializeWrapper), 3)
	f.Fuzz(func(t *testing.T, data []byte, version int) {
		b, err := DecodeRegisterBroker(data, version)
		if err == nil && b == nil {
			t.Fatal("neither a body nor an error")
		}
	})
}

func FuzzProperties(f *testing.F) {
	f.Add([]byte("a=b\\\n c\n\\u0041:x\\\\"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ParseProperties(data)
		if err != nil || bytes.ContainsAny(data, "\\\f") || strings.ContainsRune(string(data), 0xFFFD) {
			return
		}
		again, err := ParseProperties(EncodeProperties(list))
		if err != nil || len(again) != len(list) {
			t.Fatalf("%q: %q, %v", list, again, err)
		}
	})
}
