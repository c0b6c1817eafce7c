package txn

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/message"
)

// fullHalf stores a half as another broker would: its properties leave no room.
func (w *world) fullHalf(key string) End {
	w.t.Helper()
	p := message.Properties("PGROUP\x01g\x02UNIQ_KEY\x01" + key + "\x02REAL_TOPIC\x01orders\x02REAL_QID\x013\x02x\x01")
	p = append(p, strings.Repeat("x", message.MaxPropertiesSize-len(p)-1)+"\x02"...)
	m := message.Message{Topic: message.TopicHalf, BornTimestamp: w.clock.UnixMilli(), Properties: p}
	b := w.log.NewBatch()
	if err := errors.Join(b.Add(&m), b.Append()); err != nil {
		w.t.Fatal(err)
	}
	off, pos := b.Result(0)
	return End{Group: "g", Offset: off, Position: pos, Client: testHost}
}

func TestHalfLeavesRoomForNotes(t *testing.T) {
	w := newWorld(t)
	big := func(n int) message.Message {
		return message.Message{Topic: "orders", BornTimestamp: w.clock.UnixMilli(), Properties: message.Properties("PGROUP\x01g\x02UNIQ_KEY\x01K\x02x\x01" + strings.Repeat("x", n) + "\x02")}
	}
	n := message.MaxPropertiesSize
	m := big(n)
	for ; Prepare(&m) != nil; n-- {
		m = big(n)
	}
	if len(m.Properties) > message.MaxPropertiesSize-reserved {
		t.Fatalf("a half with %d bytes of properties is taken", len(m.Properties))
	}
	b := w.log.NewBatch()
	if err := errors.Join(b.Add(&m), b.Append()); err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Second)
	for off, h := range w.c.pending { // the longest notes that there can be
		h.checks = 1<<31 - 1
		w.c.pending[off] = h
	}
	if err := w.c.Carry(w.log.End()); err != nil {
		t.Fatal(err)
	}
	q := w.log.queues[message.TopicHalf]
	p := w.log.records[q[len(q)-1]].Properties()
	if len(q) != 2 || p.Value(message.PropPreparedOffset) != "0" || p.Value(message.PropCheckTimes) != "2147483647" {
		t.Errorf("%d halves, carried with the notes %q and %q", len(q), p.Value(message.PropPreparedOffset), p.Value(message.PropCheckTimes))
	}
}

// A half without room for notes goes on without them.
func TestFullHalfIsCarriedAndGivenUp(t *testing.T) {
	w := newWorld(t)
	w.fullHalf("K")
	w.pass(2 * time.Second)
	if err := w.c.Carry(w.log.End()); err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Second)
	if n := len(w.log.queues[message.TopicHalf]); n != 2 || len(w.c.pending) != 1 {
		t.Fatalf("%d halves, %d pending after the carry", n, len(w.c.pending))
	}
	w.pass(time.Hour)
	if n := len(w.log.queues[message.TopicCheckMax]); n != 1 || len(w.c.pending) != 0 || w.c.Stats().Lost != 0 {
		t.Errorf("%d discarded, %d pending", n, len(w.c.pending))
	}
}

// What cannot be read must not keep the log from being trimmed.
func TestDamagedHalfHoldsNothingUp(t *testing.T) {
	for _, name := range []string{"carried", "given up", "asked about", "looked at"} {
		w := newWorld(t)
		w.mayFail = true
		bad := w.half("g", "K1", "")
		if name == "looked at" {
			w.log.damaged[bad.Position] = true
		}
		w.half("h", "K2", "")
		w.pass(2 * time.Second)
		w.log.damaged[bad.Position] = true
		pending := 1
		switch name {
		case "carried":
			if err := w.c.Carry(w.log.End()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			w.pass(2 * time.Second)
			if n := w.c.Stats().Carried; n != 1 {
				t.Errorf("%s: %d halves were carried, want the good one", name, n)
			}
		case "given up":
			w.pass(2 * time.Hour)
			pending = 0
		case "asked about":
			w.online["g"] = true
			w.pass(7 * time.Second)
		}
		if s := w.c.Stats(); s.Pending != pending || s.Lost != 1 || len(w.failed) != 1 || !strings.Contains(w.failed[0], "half 0 ") {
			t.Errorf("%s: %d pending, %d lost, told %q", name, s.Pending, s.Lost, w.failed)
		}
	}
}

// A power cut may keep a mark and lose the copy before it: the half stays.
func TestCutTakesACopyAndLeavesItsMark(t *testing.T) {
	for _, topic := range []string{message.TopicHalf, message.TopicCheckMax} {
		for _, lostDB := range []bool{false, true} {
			for _, hole := range []bool{false, true} {
				w := newWorld(t)
				w.half("h", "K0", "") // a half at position 0 looks like nothing to be made of
				w.pass(2 * time.Second)
				if err := w.end(End{Group: "h"}, Rollback); err != nil {
					t.Fatal(err)
				}
				e := w.half("g", "K", "")
				w.pass(2 * time.Second)
				w.log.flush()
				w.pass(time.Second)
				if topic == message.TopicHalf {
					if err := w.c.Carry(w.log.End()); err != nil {
						t.Fatal(err)
					}
				} else {
					w.pass(2 * time.Hour)
				}
				q := w.log.queues[topic]
				copied := w.log.records[q[len(q)-1]]
				w.log.damaged[copied.Position()] = hole
				w.log.told = len(w.log.records)
				w.log.flush()
				if lostDB {
					w.newDB()
				}
				w.mayFail = true
				w.open()
				_, pending := w.c.pending[e.Offset]
				_, moved := w.c.pending[copied.QueueOffset()]
				if pending != hole || topic == message.TopicHalf && moved == hole {
					t.Errorf("%s, database lost %v, copy lost %v: the half is pending: %v, its copy: %v", topic, lostDB, hole, pending, moved)
				}
				if err := w.end(e, Commit); hole && (err != nil || w.finals()[e.Position] != 1) {
					t.Errorf("%s, database lost %v: committed with %v", topic, lostDB, err)
				}
			}
		}
	}
}
