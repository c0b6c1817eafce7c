package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/merlinmq/merlin/remoting"
)

// Instant is a time that Merlin's brokers send as milliseconds and people read
// as RFC 3339. The zero value is none.
type Instant struct{ time.Time }

// UnmarshalJSON reads milliseconds since 1970; 0 is none.
func (t *Instant) UnmarshalJSON(b []byte) error {
	ms, err := strconv.ParseInt(string(b), 10, 64)
	if err == nil && ms != 0 {
		t.Time = time.UnixMilli(ms)
	}
	return err
}

// Delayed is a message that waits for its time.
type Delayed struct {
	Broker     string            `json:"broker"`
	Due        Instant           `json:"due"`
	Level      int               `json:"level,omitempty"` // 0: for any instant
	Topic      string            `json:"topic"`
	Queue      int32             `json:"queue"`
	UniqueKey  string            `json:"unique_key"`
	Keys       string            `json:"keys,omitempty"`
	Tags       string            `json:"tags,omitempty"`
	Size       int               `json:"size"` // bytes of the body
	Born       Instant           `json:"born"`
	Stored     Instant           `json:"stored"`
	Position   int64             `json:"position"`
	ID         string            `json:"id"` // offset id
	Properties map[string]string `json:"properties,omitempty"`
	Body       []byte            `json:"body,omitempty"`
	Error      string            `json:"error,omitempty"` // why it was not changed
}

// DelayedFilter says which waiting messages to list. Zero values match all.
type DelayedFilter struct {
	Topic, Key string
	From, To   time.Time // due at or after, and before
	Max        int
	After      string // DelayedPage.Next of the page before
}

// DelayedPage is a page of waiting messages by due time.
type DelayedPage struct {
	Messages []Delayed `json:"messages"`
	Next     string    `json:"next,omitempty"` // "" when nothing follows
}

type delayedCursor struct {
	Due      int64 `json:"due,omitempty"`
	Position int64 `json:"position,omitempty"`
}

// callJSON makes a call of ours: a JSON body each way.
func (a *Admin) callJSON(ctx context.Context, b Broker, op string, code int, fields remoting.Fields, in, out any) error {
	var text []byte
	var err error
	if in != nil {
		if text, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	ans, err := a.call(ctx, roleBroker, b.Addr, op, code, fields, text)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(ans.body, out); err != nil {
		return fmt.Errorf("%s: the answer of %s cannot be read: %w", op, b.Addr, err)
	}
	return nil
}

// Delayed lists the messages that wait at all brokers.
func (a *Admin) Delayed(ctx context.Context, f DelayedFilter) (DelayedPage, error) {
	cursors, err := parseCursors(f.After)
	if err != nil {
		return DelayedPage{}, err
	}
	brokers, err := a.Brokers(ctx)
	if err != nil {
		return DelayedPage{}, err
	}
	page := DelayedPage{Messages: []Delayed{}}
	more := map[string]delayedCursor{}
	for _, b := range brokers {
		after, ok := cursors[b.Name]
		if f.After != "" && !ok {
			continue // that broker had no more
		}
		in := struct {
			Topic string        `json:"topic,omitempty"`
			Key   string        `json:"key,omitempty"`
			From  int64         `json:"from,omitempty"`
			To    int64         `json:"to,omitempty"`
			Limit int           `json:"limit,omitempty"`
			After delayedCursor `json:"after"`
		}{f.Topic, f.Key, msOf(f.From), msOf(f.To), f.Max, after}
		var out struct {
			Messages []Delayed     `json:"messages"`
			Next     delayedCursor `json:"next"`
			More     bool          `json:"more"`
		}
		if err := a.callJSON(ctx, b, "list delayed messages", remoting.ReqListDelayed, nil, in, &out); err != nil {
			return page, err
		}
		for i := range out.Messages {
			out.Messages[i].Broker = b.Name
		}
		page.Messages = append(page.Messages, out.Messages...)
		if out.More {
			more[b.Name] = out.Next
		}
	}
	page.cut(f.Max, cursors, more)
	return page, nil
}

func msOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// cut keeps the first messages of all brokers together and says where each
// broker goes on.
func (p *DelayedPage) cut(limit int, before, more map[string]delayedCursor) {
	slices.SortStableFunc(p.Messages, func(x, y Delayed) int {
		return cmp.Or(x.Due.Compare(y.Due.Time), cmp.Compare(x.Position, y.Position))
	})
	if limit > 0 && len(p.Messages) > limit {
		for _, m := range p.Messages[limit:] {
			more[m.Broker] = before[m.Broker]
		}
		for _, m := range p.Messages[:limit] {
			if _, cut := more[m.Broker]; cut {
				more[m.Broker] = delayedCursor{m.Due.UnixMilli(), m.Position}
			}
		}
		p.Messages = p.Messages[:limit]
	}
	parts := make([]string, 0, len(more))
	for _, name := range sortedKeys(more) {
		parts = append(parts, fmt.Sprintf("%s=%d.%d", name, more[name].Due, more[name].Position))
	}
	p.Next = strings.Join(parts, ",")
}

func parseCursors(text string) (map[string]delayedCursor, error) {
	cursors := map[string]delayedCursor{}
	if text == "" {
		return cursors, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		name, place, ok := strings.Cut(part, "=")
		var c delayedCursor
		if _, err := fmt.Sscanf(place, "%d.%d", &c.Due, &c.Position); err != nil || !ok {
			return nil, fmt.Errorf("%q does not come from an earlier page", text)
		}
		cursors[name] = c
	}
	return cursors, nil
}

// DelayedChange names waiting messages by one of ID, a unique key or offset id,
// and Key. A zero Due cancels them.
type DelayedChange struct {
	ID, Key, Topic string
	Due            time.Time
}

// ShowDelayed returns the waiting messages with an id or key, with their
// bodies. ErrNotFound if none waits.
func (a *Admin) ShowDelayed(ctx context.Context, c DelayedChange) ([]Delayed, error) {
	return a.eachDelayed(ctx, "show delayed messages", remoting.ReqShowDelayed, c)
}

// ChangeDelayed cancels waiting messages or gives them another instant, and
// returns what came of each. ErrNotFound if none waits.
func (a *Admin) ChangeDelayed(ctx context.Context, c DelayedChange) ([]Delayed, error) {
	return a.eachDelayed(ctx, "change delayed messages", remoting.ReqChangeDelayed, c)
}

func (a *Admin) eachDelayed(ctx context.Context, op string, code int, c DelayedChange) ([]Delayed, error) {
	brokers, err := a.Brokers(ctx)
	if err != nil {
		return nil, err
	}
	in := map[string]any{"id": c.ID, "key": c.Key, "topic": c.Topic, "due": msOf(c.Due)}
	var list []Delayed
	var why error
	for _, b := range brokers {
		found, err := a.delayedAt(ctx, b, op, code, in)
		list = append(list, found...)
		if isCode(err, remoting.RespIllegalOperation) {
			why = err
			continue
		}
		if err != nil {
			return list, err
		}
	}
	if len(list) == 0 {
		return nil, errors.Join(why, ErrNotFound)
	}
	return list, nil
}

// delayedAt goes through all pages of one broker.
func (a *Admin) delayedAt(ctx context.Context, b Broker, op string, code int, in map[string]any) (list []Delayed, err error) {
	delete(in, "page")
	for {
		var out struct {
			Messages []Delayed       `json:"messages"`
			Next     json.RawMessage `json:"next"`
		}
		if err := a.callJSON(ctx, b, op, code, nil, in, &out); err != nil {
			return list, err
		}
		for i := range out.Messages {
			out.Messages[i].Broker = b.Name
		}
		list = append(list, out.Messages...)
		if len(out.Next) == 0 {
			return list, nil
		}
		in["page"] = out.Next
	}
}

// Schedule is a recurring message.
type Schedule struct {
	Broker  string    `json:"broker"`
	Name    string    `json:"name"`
	Topic   string    `json:"topic"`
	Queue   int32     `json:"queue"`
	Spec    string    `json:"spec"`
	Keys    string    `json:"keys,omitempty"` // of each message, separated by spaces
	Until   Instant   `json:"until,omitzero"`
	Count   int64     `json:"count,omitempty"`
	Missed  string    `json:"missed"` // skip, once or all
	Paused  bool      `json:"paused"`
	Created Instant   `json:"created"`
	Fired   int64     `json:"fired"`
	Last    Instant   `json:"last"` // planned time of the last firing, or since when it counts
	Next    Instant   `json:"next,omitzero"`
	Coming  []Instant `json:"coming,omitempty"` // the next firings
}

// NewSchedule asks for a recurring message.
type NewSchedule struct {
	Name    string `json:"name"`
	Topic   string `json:"topic"`
	Spec    string `json:"spec"`
	Body    []byte `json:"body"`
	Tags    string `json:"tags,omitempty"`
	Keys    string `json:"keys,omitempty"`
	Until   string `json:"until,omitempty"` // RFC 3339
	Count   int64  `json:"count,omitempty"`
	Missed  string `json:"missed,omitempty"`
	Replace bool   `json:"replace,omitempty"` // change the one of that name
}

// Schedules lists the recurring messages of all brokers by name.
func (a *Admin) Schedules(ctx context.Context) ([]Schedule, error) {
	brokers, err := a.Brokers(ctx)
	if err != nil {
		return nil, err
	}
	list := []Schedule{}
	for _, b := range brokers {
		var out struct {
			Schedules []Schedule `json:"schedules"`
		}
		if err := a.callJSON(ctx, b, "list schedules", remoting.ReqListSchedules, nil, nil, &out); err != nil {
			return nil, err
		}
		for i := range out.Schedules {
			out.Schedules[i].Broker = b.Name
		}
		list = append(list, out.Schedules...)
	}
	slices.SortStableFunc(list, func(x, y Schedule) int { return strings.Compare(x.Name, y.Name) })
	return list, nil
}

// Schedule returns the recurring message of a name with its next firings.
// ErrNotFound if there is none.
func (a *Admin) Schedule(ctx context.Context, name string, count int) (*Schedule, error) {
	var fields remoting.Fields
	fields.Str("name", name)
	fields.Int("count", int64(count))
	var out struct {
		Schedule Schedule  `json:"schedule"`
		Next     []Instant `json:"next"`
	}
	broker, err := a.askSchedule(ctx, "show the schedule "+name, remoting.ReqShowSchedule, fields, &out)
	out.Schedule.Broker, out.Schedule.Coming = broker, out.Next
	return &out.Schedule, err
}

// AddSchedule makes a recurring message at a broker that has its topic; with
// Replace at the one that has the schedule.
func (a *Admin) AddSchedule(ctx context.Context, n NewSchedule) (*Schedule, error) {
	route, err := a.Route(ctx, n.Topic)
	if err != nil {
		return nil, err
	}
	brokers := routeBrokers(route)
	if len(brokers) == 0 {
		return nil, fmt.Errorf("no broker has the topic %s", n.Topic)
	}
	all, err := a.Schedules(ctx)
	if err != nil {
		return nil, err
	}
	at := brokers[0]
	for _, s := range all {
		if s.Name != n.Name {
			continue
		}
		for _, b := range brokers {
			if b.Name == s.Broker {
				at = b
			}
		}
	}
	var out struct {
		Schedule Schedule `json:"schedule"`
	}
	err = a.callJSON(ctx, at, "add the schedule "+n.Name, remoting.ReqAddSchedule, nil, n, &out)
	out.Schedule.Broker = at.Name
	return &out.Schedule, err
}

// ControlSchedule pauses, resumes or removes a recurring message and returns
// the broker that had it. ErrNotFound if there is none of the name.
func (a *Admin) ControlSchedule(ctx context.Context, name, operation string) (broker string, err error) {
	var fields remoting.Fields
	fields.Str("name", name)
	fields.Str("operation", operation)
	return a.askSchedule(ctx, operation+" the schedule "+name, remoting.ReqControlSchedule, fields, nil)
}

// askSchedule asks one broker after the other for a schedule.
func (a *Admin) askSchedule(ctx context.Context, op string, code int, fields remoting.Fields, out any) (broker string, err error) {
	brokers, err := a.Brokers(ctx)
	if err != nil {
		return "", err
	}
	for _, b := range brokers {
		err := a.callJSON(ctx, b, op, code, fields, nil, out)
		if err == nil {
			return b.Name, nil
		}
		if !isCode(err, remoting.RespQueryNotFound) {
			return "", err
		}
	}
	return "", fmt.Errorf("%s: %w", op, ErrNotFound)
}
