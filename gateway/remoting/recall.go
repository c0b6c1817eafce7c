package gateway

import (
	"encoding/json"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
)

// RECALL_MESSAGE 370
//
//   - The handle is the one that the send of a timed message was answered with.
//   - Difference: the answer is success only if the message was still waiting,
//     ILLEGAL_OPERATION otherwise; Apache's broker says success for every handle
//     whose time is not over.
//
// Our own requests about delayed and recurring messages: LIST 30221, SHOW
// 30222, CHANGE 30223; of schedules LIST 30224, SHOW 30225, ADD 30226, CONTROL
// 30227. Bodies are JSON.

// addDelays adds the requests about messages at a time.
func addDelays(t map[int]serveFunc) {
	t[remoting.ReqConsumerSendMsgBack] = (*session).sendBack
	t[remoting.ReqRecallMessage] = (*session).recall
	t[remoting.ReqListDelayed] = (*session).listDelayed
	t[remoting.ReqShowDelayed] = (*session).showDelayed
	t[remoting.ReqChangeDelayed] = (*session).changeDelayed
	t[remoting.ReqListSchedules] = (*session).listSchedules
	t[remoting.ReqShowSchedule] = (*session).showSchedule
	t[remoting.ReqAddSchedule] = (*session).addSchedule
	t[remoting.ReqControlSchedule] = (*session).controlSchedule
}

func (s *session) recall(r *remoting.Request) error {
	topic, err := r.String("topic")
	if err != nil {
		return err
	}
	unique, err := s.broker.Recall(topic, r.StringOr("recallHandle", ""))
	if err != nil {
		return err
	}
	return s.conn.Reply(r, remoting.RespSuccess).Str("msgId", unique).End()
}

// readJSON reads a body of our own requests.
func readJSON(r *remoting.Request, v any) error {
	if err := json.Unmarshal(r.Body, v); err != nil {
		return &broker.Error{Kind: broker.KindInvalidParameter, Text: "the body of " + remoting.CodeName(r.Code) + " cannot be read", Cause: err}
	}
	return nil
}

func (s *session) listDelayed(r *remoting.Request) error {
	var f broker.DelayFilter
	if err := readJSON(r, &f); err != nil {
		return err
	}
	list, err := s.broker.ListDelayed(f)
	if err != nil {
		return err
	}
	return s.okJSON(r, list)
}

func (s *session) showDelayed(r *remoting.Request) error {
	var c broker.DelayChange
	if err := readJSON(r, &c); err != nil {
		return err
	}
	found, next, err := s.broker.FindDelayed(c)
	if err != nil {
		return err
	}
	type shown struct {
		broker.DelayPending
		Properties map[string]string `json:"properties"`
		Body       []byte            `json:"body"`
	}
	out := make([]shown, 0, len(found))
	for i := range found {
		v, err := s.broker.DelayedRecord(&found[i])
		if err != nil {
			return err
		}
		out = append(out, shown{found[i], v.Properties().Map(), v.Body()})
	}
	return s.okJSON(r, pageOf(out, next))
}

// pageOf returns an answer with the place where the next one goes on, if any.
func pageOf(messages any, next broker.DelayPage) map[string]any {
	page := map[string]any{"messages": messages}
	if next != (broker.DelayPage{}) {
		page["next"] = next
	}
	return page
}

func (s *session) changeDelayed(r *remoting.Request) error {
	var c broker.DelayChange
	if err := readJSON(r, &c); err != nil {
		return err
	}
	changed, next, err := s.broker.ChangeDelayed(c)
	if err != nil {
		return err
	}
	return s.okJSON(r, pageOf(changed, next))
}

func (s *session) listSchedules(r *remoting.Request) error {
	return s.okJSON(r, map[string]any{"schedules": s.broker.Schedules()})
}

func (s *session) showSchedule(r *remoting.Request) error {
	name, err := r.String("name")
	if err != nil {
		return err
	}
	count, err := r.Int32Or("count", 5)
	if err != nil {
		return err
	}
	schedule, next, err := s.broker.ShowSchedule(name, int(count))
	if err != nil {
		return err
	}
	return s.okJSON(r, map[string]any{"schedule": schedule, "next": next})
}

func (s *session) addSchedule(r *remoting.Request) error {
	var n broker.NewSchedule
	if err := readJSON(r, &n); err != nil {
		return err
	}
	schedule, err := s.broker.AddSchedule(n)
	if err != nil {
		return err
	}
	return s.okJSON(r, map[string]any{"schedule": schedule})
}

func (s *session) controlSchedule(r *remoting.Request) error {
	name, err := r.String("name")
	if err != nil {
		return err
	}
	operation, err := r.String("operation")
	if err != nil {
		return err
	}
	if err := s.broker.ControlSchedule(name, operation); err != nil {
		return err
	}
	return s.ok(r)
}
