package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// resetClient keeps the resets that are pushed to it.
type resetClient struct {
	fakeClient
	pushed []*OffsetReset
}

func (c *resetClient) ResetOffsets(r *OffsetReset) { c.pushed = append(c.pushed, r) }

// Each way to reset, without members and with one: without, the offsets are
// committed; with one, they are pushed to it and it commits by itself.
func TestResetOffsets(t *testing.T) {
	w := newWhyWorld(t, nil)
	for range 5 {
		w.put("t", "")
	}
	w.pass(time.Hour)
	middle := w.now().UnixMilli()
	w.pass(time.Minute)
	for range 5 {
		w.put("t", "")
	}
	must(w.groups.AutoCreate("g"))
	all := func(at int64, force bool) ResetRequest {
		return ResetRequest{Group: "g", Topic: "t", Queue: -1, Offset: -1, Timestamp: at, Force: force}
	}
	cases := []struct {
		name   string
		r      ResetRequest
		want   message.Offset // of queue 0
		queues int
		kind   Kind
	}{
		{"to earliest", all(0, true), 0, 4, noRefusal},
		{"to latest", all(-1, true), 10, 4, noRefusal},
		{"skip", all(-1, true), 10, 4, noRefusal},
		{"by time", all(middle, true), 5, 4, noRefusal},
		{"by a time to come", all(middle+time.Hour.Milliseconds(), true), 10, 4, noRefusal},
		{"by queue", ResetRequest{Group: "g", Topic: "t", Queue: 0, Offset: -1, Timestamp: 0, Force: true}, 0, 1, noRefusal},
		{"to an offset", ResetRequest{Group: "g", Topic: "t", Queue: 0, Offset: 3, Force: true}, 3, 1, noRefusal},
		{"to the end", ResetRequest{Group: "g", Topic: "t", Queue: 0, Offset: 10, Force: true}, 10, 1, noRefusal},
		{"backwards without force", all(middle, false), 5, 4, noRefusal},
		{"forwards without force", all(-1, false), 7, 4, noRefusal},
		{"beyond the end", ResetRequest{Group: "g", Topic: "t", Queue: 0, Offset: 11, Force: true}, 7, 0, KindSystem},
		{"an unknown queue", ResetRequest{Group: "g", Topic: "t", Queue: 4, Offset: -1}, 7, 0, KindInvalidParameter},
		{"an unknown topic", ResetRequest{Group: "g", Topic: "none", Queue: -1}, 7, 0, KindTopicNotExist},
		{"an unknown group", ResetRequest{Group: "none", Topic: "t", Queue: -1}, 7, 0, KindGroupNotExist},
	}
	var member *resetClient
	for _, online := range []bool{false, true} {
		if online {
			member = &resetClient{fakeClient: fakeClient{port: 7}}
			if err := w.Heartbeat(member, consume("m", "g", tagged("t", "*", 1))); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range cases {
			name := fmt.Sprintf("%s, online %t", c.name, online)
			w.offsets.Commit("g", "t", 0, 7)
			if online {
				member.pushed = nil
			}
			got, err := w.ResetOffsets(&c.r)
			wantKind(t, name, err, c.kind)
			if c.name == "beyond the end" && !strings.HasSuffix(err.Error(), "[0-10] of t queue 0; choose an offset in the range, earliest or latest") {
				t.Errorf("%s: %v does not say what to do", name, err)
			}
			at, _ := w.offsets.Query("g", "t", 0)
			if len(got) != c.queues || c.kind == noRefusal && got[QueueRef{"t", "broker-a", 0}] != c.want {
				t.Errorf("%s: %v, want %d of %d queues", name, got, c.want, c.queues)
			}
			committed := c.want
			if online {
				committed = 7 // the member does that
				if pushed := len(member.pushed); (pushed == 1) != (c.kind == noRefusal) || pushed == 1 && member.pushed[0].Offsets[QueueRef{"t", "broker-a", 0}] != c.want {
					t.Errorf("%s: pushed %d times", name, pushed)
				}
			}
			if at != committed {
				t.Errorf("%s: committed %d, want %d", name, at, committed)
			}
		}
	}
}

func TestCloneAndProgress(t *testing.T) {
	w := newWhyWorld(t, nil)
	for range 4 {
		w.put("t", "")
	}
	w.put("u", "")
	w.pass(30 * time.Second)
	w.offsets.Commit("g", "t", 0, 1)
	w.offsets.Commit("g", "u", 0, 1)
	w.member("m", 1, tagged("t", "*", 1))
	at := func(group, topic string) message.Offset {
		offset, found := w.offsets.Query(group, topic, 0)
		if !found {
			return -1
		}
		return offset
	}
	// Online, topics that the members do not subscribe to are left out.
	for _, c := range []struct {
		to, topic string
		offline   bool
		t, u      message.Offset
	}{{"one", "t", false, 1, -1}, {"all", "", true, 1, 1}, {"wanted", "", false, 1, -1}, {"none", "x", true, -1, -1}} {
		if err := w.CloneOffsets("g", c.to, c.topic, c.offline); err != nil {
			t.Fatal(err)
		}
		if at(c.to, "t") != c.t || at(c.to, "u") != c.u {
			t.Errorf("%s: %d and %d, want %d and %d", c.to, at(c.to, "t"), at(c.to, "u"), c.t, c.u)
		}
	}
	wantKind(t, "a bad name", w.CloneOffsets("g", "no good", "t", true), KindInvalidParameter)
	list := w.ConsumeProgress("g", "t")
	spans, err := w.ConsumeSpans("g", "t")
	if err != nil || len(list) != 4 || list[0].End-list[0].Committed != 3 || spans[0].Delay < 29_000 || spans[0].Delay > 60_000 || spans[1].Delay != 0 {
		t.Errorf("lag: %+v, %+v, %v", list[0], spans, err)
	}
}
