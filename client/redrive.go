package client

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/merlinmq/merlin/remoting"
)

// RedriveSpec asks that dead letters are sent again.
type RedriveSpec struct {
	ID     string // "": a new one
	Group  string
	To     string // original, retry or topic
	Topic  string // with topic
	Rate   int    // messages a second at each broker; 0: no bound
	Filter DeadFilter
}

type redriveSpec struct {
	ID     string     `json:"id"`
	Group  string     `json:"group"`
	To     string     `json:"to"`
	Topic  string     `json:"topic,omitempty"`
	Rate   int        `json:"rate"`
	Filter deadFilter `json:"filter"`
}

func (s *RedriveSpec) wire() redriveSpec {
	return redriveSpec{s.ID, s.Group, s.To, s.Topic, s.Rate, s.Filter.wire()}
}

// Redrive is a re-drive at one broker and how far it is.
type Redrive struct {
	Broker  string  `json:"broker"`
	ID      string  `json:"id"`
	Group   string  `json:"group"`
	To      string  `json:"to"`
	Topic   string  `json:"topic,omitempty"`
	Rate    int     `json:"rate,omitempty"`
	State   string  `json:"state"` // running, done, stopped or cancelled
	First   int64   `json:"first"`
	End     int64   `json:"end"`
	Next    int64   `json:"next"`
	Sent    int64   `json:"sent"`
	Skipped int64   `json:"skipped"`
	Failed  int64   `json:"failed"`
	Gone    int64   `json:"gone"`
	Created Instant `json:"created"`
	Updated Instant `json:"updated"`
	Error   string  `json:"error,omitempty"`
	Waiting string  `json:"waiting,omitempty"`
}

// Over tells whether the re-drive is not at work any more.
func (r *Redrive) Over() bool { return r.State != "running" }

func (a *Admin) callRedrive(ctx context.Context, b Broker, op string, code int, fields remoting.Fields, in any) ([]Redrive, error) {
	var out struct {
		Redrives []Redrive `json:"redrives"`
	}
	err := a.callJSON(ctx, b, op, code, fields, in, &out)
	for i := range out.Redrives {
		out.Redrives[i].Broker = b.Name
	}
	return out.Redrives, err
}

// Redrive begins a re-drive at all brokers that have dead letters of the
// group. Asked again with the same id it changes nothing.
func (a *Admin) Redrive(ctx context.Context, s RedriveSpec) ([]Redrive, error) {
	if s.ID == "" {
		return nil, errors.New("a re-drive wants an id")
	}
	var list []Redrive
	err := a.eachDeadBroker(ctx, func(b Broker) error {
		jobs, err := a.callRedrive(ctx, b, "re-drive dead letters", remoting.ReqRedrive, nil, s.wire())
		list = append(list, jobs...)
		return err
	})
	return list, err
}

// Redrives returns the re-drives of all brokers, newest first; those of one id
// if it is not "".
func (a *Admin) Redrives(ctx context.Context, id string) ([]Redrive, error) {
	var fields remoting.Fields
	if id != "" {
		fields.Str("id", id)
	}
	var list []Redrive
	err := a.eachDeadBroker(ctx, func(b Broker) error {
		jobs, err := a.callRedrive(ctx, b, "look for re-drives", remoting.ReqListRedrives, fields, nil)
		list = append(list, jobs...)
		return err
	})
	slices.SortStableFunc(list, func(x, y Redrive) int { return y.Created.Compare(x.Created.Time) })
	return list, err
}

// ControlRedrive resumes or cancels a re-drive. A rate that is not negative is
// the new one.
func (a *Admin) ControlRedrive(ctx context.Context, id, operation string, rate int) ([]Redrive, error) {
	var fields remoting.Fields
	fields.Str("id", id)
	fields.Str("operation", operation)
	fields.Int("rate", int64(rate))
	var list []Redrive
	err := a.eachDeadBroker(ctx, func(b Broker) error {
		jobs, err := a.callRedrive(ctx, b, operation+" the re-drive "+id, remoting.ReqControlRedrive, fields, nil)
		list = append(list, jobs...)
		return err
	})
	return list, err
}

// RedriveResult is what became of one dead letter.
type RedriveResult struct {
	Broker    string `json:"broker"`
	Offset    int64  `json:"offset"` // of the dead letter
	Status    string `json:"status"` // sent, failed or gone
	UniqueKey string `json:"unique_key,omitempty"`
	Keys      string `json:"keys,omitempty"`
	Topic     string `json:"topic,omitempty"` // where it was sent
	Queue     int32  `json:"queue"`
	NewOffset int64  `json:"new_offset"`
	ID        string `json:"id,omitempty"` // of the message that was sent
	Error     string `json:"error,omitempty"`
}

// EachRedriveResult calls fn for what became of each dead letter that matched.
func (a *Admin) EachRedriveResult(ctx context.Context, id string, fn func(*RedriveResult) error) error {
	return a.eachDeadBroker(ctx, func(b Broker) error {
		for from := int64(0); ; {
			var fields remoting.Fields
			fields.Str("id", id)
			fields.Int("from", from)
			var out struct {
				Results []RedriveResult `json:"results"`
				Next    int64           `json:"next"`
				More    bool            `json:"more"`
			}
			if err := a.callJSON(ctx, b, "ask for the results of the re-drive "+id, remoting.ReqRedriveResults, fields, nil, &out); err != nil {
				return err
			}
			for i := range out.Results {
				out.Results[i].Broker = b.Name
				if err := fn(&out.Results[i]); err != nil {
					return err
				}
			}
			if from = out.Next; !out.More {
				return nil
			}
		}
	})
}

// RedrivePlan says what a re-drive would do.
type RedrivePlan struct {
	Scanned  int64            `json:"scanned"`
	Matched  int64            `json:"matched"`
	Topics   map[string]int64 `json:"topics"`             // where they would go
	Problems map[string]int64 `json:"problems,omitempty"` // why some could not be sent
}

// PlanRedrive finds out what a re-drive would do, and changes nothing.
// progress is told how many dead letters were looked at.
func (a *Admin) PlanRedrive(ctx context.Context, s RedriveSpec, progress func(scanned int64)) (RedrivePlan, error) {
	s.ID = cmp.Or(s.ID, "plan")
	p := RedrivePlan{Topics: map[string]int64{}, Problems: map[string]int64{}}
	err := a.eachDeadBroker(ctx, func(b Broker) error {
		for from := int64(0); ; {
			var fields remoting.Fields
			fields.Int("from", from)
			var out struct {
				RedrivePlan
				Next int64 `json:"next"`
				More bool  `json:"more"`
			}
			if err := a.callJSON(ctx, b, "plan a re-drive", remoting.ReqPlanRedrive, fields, s.wire(), &out); err != nil {
				return err
			}
			p.Scanned, p.Matched = p.Scanned+out.Scanned, p.Matched+out.Matched
			for topic, n := range out.Topics {
				p.Topics[topic] += n
			}
			for text, n := range out.Problems {
				p.Problems[text] += n
			}
			progress(p.Scanned)
			if from = out.Next; !out.More {
				return nil
			}
		}
	})
	return p, err
}
