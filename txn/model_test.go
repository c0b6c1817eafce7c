package txn

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// world drives a coordinator by hand: its own clock, log, and producers.
type world struct {
	t       testing.TB
	clock   time.Time
	log     *memLog
	db      *kv.DB
	c       *Coordinator
	rules   Rules
	online  map[string]bool
	deaf    bool // checks cannot be sent
	checks  []*Check
	onCheck func(*Check)
	gone    []string // groups that were told to have no producer
	refused []string // groups and reasons
	failed  []string // what did not work
	mayFail bool
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, clock: time.UnixMilli(1_800_000_000_000), online: map[string]bool{},
		rules: Rules{Timeout: 6 * time.Second, Interval: 30 * time.Second, MaxChecks: 3, MaxAge: time.Hour},
	}
	w.log = newMemLog(func() int64 { return w.clock.UnixMilli() })
	w.newDB()
	w.open()
	return w
}

func (w *world) newDB() {
	db, err := kv.Open("mem", kv.Options{Memory: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { db.Close() })
	w.db = db
}

func (w *world) open() {
	w.t.Helper()
	c, err := load(Options{
		Log: w.log, DB: w.db, Now: func() time.Time { return w.clock }, Rules: func() Rules { return w.rules }, StartHalf: -1, StartOp: -1,
		Pick: func(group string) (Producer, bool) { return &modelProducer{w, group}, w.online[group] },
		Events: Events{
			NoProducer: func(group string, _ int) { w.gone = append(w.gone, group) },
			Refused:    func(group string, why Reason, _ string) { w.refused = append(w.refused, group+" "+string(why)) },
			Failed: func(what string, err error) {
				if w.failed = append(w.failed, what); !w.mayFail {
					w.t.Fatalf("%s: %v", what, err)
				}
			},
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.c = c
}

type modelProducer struct {
	w     *world
	group string
}

func (p *modelProducer) ID() string           { return "client of " + p.group }
func (p *modelProducer) Addr() netip.AddrPort { return testHost }

func (p *modelProducer) Check(c *Check) error {
	if p.w.deaf {
		return errors.New("the connection is full")
	}
	p.w.checks = append(p.w.checks, c)
	if p.w.onCheck != nil {
		p.w.onCheck(c)
	}
	return nil
}

// half stores a half and returns how its end names it.
func (w *world) half(group, key, extra string) End {
	w.t.Helper()
	m := message.Message{
		Topic: "orders", QueueID: 3, BornTimestamp: w.clock.UnixMilli(), Body: []byte("body of " + key), SysFlag: message.FlagPrepared,
		Properties: message.Properties("TRAN_MSG\x01true\x02PGROUP\x01" + group + "\x02UNIQ_KEY\x01" + key + "\x02" + extra),
	}
	if err := Prepare(&m); err != nil {
		w.t.Fatal(err)
	}
	b := w.log.NewBatch()
	if err := errors.Join(b.Add(&m), b.Append()); err != nil {
		w.t.Fatal(err)
	}
	off, pos := b.Result(0)
	return End{Group: group, Offset: off, Position: pos, Client: testHost}
}

func (w *world) end(e End, v Verdict) error {
	e.Verdict = v
	ends := []End{e}
	w.c.End(w.log.NewBatch(), ends)
	return ends[0].Err
}

// pass lets time go by, with ticks.
func (w *world) pass(d time.Duration) {
	for step := 500 * time.Millisecond; d > 0; d -= step {
		w.clock = w.clock.Add(min(step, d))
		w.log.dispatch(w.c, 1<<30)
		w.c.tick(w.clock)
	}
}

func (w *world) finals() map[message.Position]int {
	n := map[message.Position]int{}
	for _, i := range w.log.queues["orders"] {
		n[w.log.records[i].PreparedPosition()]++
	}
	return n
}

// modelTxn is what the model knows of a transaction.
type modelTxn struct {
	end     End
	verdict Verdict // that stands
	split   bool    // a cut left the final without its mark: the producer is asked again
}

// TestModel drives random halves, ends, repeated and wrong ends, checks, power
// cuts, lost databases and time against a plain map. What the log holds after a
// cut says what must be pending; a commit that stands has its final message, a
// rollback never.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runModel(t, rand.New(rand.NewPCG(seed, 7)), 400) })
	}
}

func runModel(t *testing.T, r *rand.Rand, steps int) {
	w := newWorld(t)
	w.rules.MaxChecks = 1 << 20
	txns := map[message.Offset]*modelTxn{}
	w.onCheck = func(c *Check) {
		if x := txns[c.Offset]; x == nil || x.verdict != Unknown || x.end.Position != c.Position || x.end.Group != c.Group {
			t.Fatalf("a check %+v for %+v", c, x)
		}
	}
	pick := func() *modelTxn {
		if len(txns) == 0 {
			return nil
		}
		return txns[slices.Sorted(maps.Keys(txns))[r.IntN(len(txns))]]
	}
	n := 0
	for range steps {
		switch k := r.IntN(100); {
		case k < 35:
			n++
			e := w.half([]string{"g", "h"}[r.IntN(2)], fmt.Sprintf("K%d", n), "")
			txns[e.Offset] = &modelTxn{end: e}
		case k < 60:
			x := pick()
			if x == nil {
				continue
			}
			v := []Verdict{Commit, Commit, Rollback, Unknown}[r.IntN(4)]
			err := w.end(x.end, v)
			switch {
			case v == Unknown && err == nil:
			case x.verdict == Unknown && err == nil:
				x.verdict = v
			case x.verdict == v && err == nil:
			case x.verdict != Unknown && v != x.verdict && err != nil:
			default:
				t.Fatalf("%v of the half %d, which has %v: %v", v, x.end.Offset, x.verdict, err)
			}
		case k < 65:
			if x := pick(); x != nil {
				wrong := x.end
				switch r.IntN(3) {
				case 0:
					wrong.Group = "other"
				case 1:
					wrong.Offset++
				default:
					wrong.Position += 3
				}
				if err := w.end(wrong, []Verdict{Commit, Unknown}[r.IntN(2)]); err == nil {
					t.Fatalf("a wrong end was taken: %+v", wrong)
				}
			}
		case k < 75:
			w.log.dispatch(w.c, r.IntN(10))
		case k < 85:
			w.clock = w.clock.Add(time.Duration(r.IntN(20_000)) * time.Millisecond)
			w.c.tick(w.clock)
		case k < 89:
			w.log.flush()
		case k < 93:
			w.online["g"] = r.IntN(2) == 0
		case k < 97:
			checks := w.checks
			w.checks = nil
			for _, c := range checks {
				if x := txns[c.Offset]; x.verdict == Unknown && r.IntN(2) == 0 {
					e := x.end
					e.FromCheck = true
					if err := w.end(e, Commit); err != nil {
						t.Fatal(err)
					}
					x.verdict = Commit
				}
			}
		default:
			w.crash(r, txns)
		}
		if finals := w.finals(); true {
			for off, x := range txns {
				f := finals[x.end.Position]
				if x.verdict == Rollback && f > 0 && !x.split || x.verdict == Commit && f == 0 || x.verdict == Unknown && f > 0 && !x.split || f > 1 && !x.split {
					t.Fatalf("half %d has %v and %d final messages", off, x.verdict, f)
				}
			}
		}
	}
	w.log.dispatch(w.c, 1<<30)
	w.comparePending(txns)
}

// crash cuts the power: the log loses some of what is not flushed, and at times
// the database is lost too.
func (w *world) crash(r *rand.Rand, txns map[message.Offset]*modelTxn) {
	w.t.Helper()
	keep := len(w.log.records)
	for keep > 0 && w.log.records[keep-1].Position() >= w.log.flushed && r.IntN(4) > 0 {
		keep--
	}
	w.log = w.log.cut(keep)
	if r.IntN(4) == 0 {
		w.newDB()
	}
	w.checks = nil
	w.open()
	marked := map[message.Offset]bool{}
	for _, i := range w.log.queues[message.TopicOp] {
		eachMarked(w.log.records[i].Body(), func(off message.Offset) { marked[off] = true })
	}
	finals := w.finals()
	for off, x := range txns {
		if int(off) >= len(w.log.queues[message.TopicHalf]) {
			delete(txns, off)
			continue
		}
		if !marked[off] {
			x.verdict = Unknown
			x.split = x.split || finals[x.end.Position] > 0
		} else if x.verdict == Unknown {
			w.t.Fatalf("half %d is marked and has no verdict", off)
		}
	}
	w.comparePending(txns)
}

func (w *world) comparePending(txns map[message.Offset]*modelTxn) {
	w.t.Helper()
	want := map[message.Offset]bool{}
	for off, x := range txns {
		if x.verdict == Unknown {
			want[off] = true
		}
	}
	for off := range w.c.pending {
		if !want[off] {
			w.t.Fatalf("half %d is pending, the model has %+v", off, txns[off])
		}
	}
	if len(w.c.pending) != len(want) {
		w.t.Fatalf("%d halves are pending, want %d", len(w.c.pending), len(want))
	}
}
