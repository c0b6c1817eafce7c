package gateway

import (
	"fmt"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// Our own requests about dead letters: LIST 30401, SHOW 30402, PURGE 30408; of
// re-drives REDRIVE 30403, LIST 30404, CONTROL 30405, RESULTS 30406, PLAN
// 30407. Bodies are JSON, and times in them ms since 1970.

func addDead(t map[int]serveFunc) {
	t[remoting.ReqListDead] = (*session).listDead
	t[remoting.ReqShowDead] = (*session).showDead
	t[remoting.ReqPurgeDead] = (*session).purgeDead
	t[remoting.ReqRedrive] = (*session).redrive
	t[remoting.ReqListRedrives] = (*session).listRedrives
	t[remoting.ReqControlRedrive] = (*session).controlRedrive
	t[remoting.ReqRedriveResults] = (*session).redriveResults
	t[remoting.ReqPlanRedrive] = (*session).planRedrive
}

func (s *session) listDead(r *remoting.Request) error {
	groups, err := s.broker.DeadGroups(r.StringOr("group", ""))
	if err != nil {
		return err
	}
	return s.okJSON(r, map[string]any{"groups": groups})
}

func (s *session) showDead(r *remoting.Request) error {
	var q broker.DeadQuery
	if err := readJSON(r, &q); err != nil {
		return err
	}
	page, err := s.broker.DeadLetters(&q)
	if err != nil {
		return err
	}
	return s.okJSON(r, page)
}

func (s *session) purgeDead(r *remoting.Request) error {
	var q broker.PurgeRequest
	if err := readJSON(r, &q); err != nil {
		return err
	}
	n, err := s.broker.PurgeDead(&q)
	if err != nil {
		return err
	}
	return s.okJSON(r, map[string]any{"purged": n})
}

func (s *session) redrive(r *remoting.Request) error {
	var spec broker.RedriveSpec
	if err := readJSON(r, &spec); err != nil {
		return err
	}
	job, err := s.broker.Redrive(spec)
	if err != nil {
		return err
	}
	return s.okJSON(r, map[string]any{"redrives": []broker.Redrive{job}})
}

func (s *session) listRedrives(r *remoting.Request) error {
	list, err := s.broker.Redrives(r.StringOr("id", ""))
	if err != nil {
		return err
	}
	return s.okJSON(r, map[string]any{"redrives": list})
}

func (s *session) controlRedrive(r *remoting.Request) error {
	id, err := r.String("id")
	if err != nil {
		return err
	}
	rate, err := r.Int32Or("rate", -1)
	if err != nil {
		return err
	}
	var job broker.Redrive
	switch operation := r.StringOr("operation", ""); operation {
	case "resume":
		job, err = s.broker.ResumeRedrive(id, int(rate))
	case "cancel":
		job, err = s.broker.CancelRedrive(id)
	default:
		err = &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the operation %q on a re-drive is neither resume nor cancel", operation)}
	}
	if err != nil {
		return err
	}
	return s.okJSON(r, map[string]any{"redrives": []broker.Redrive{job}})
}

func (s *session) redriveResults(r *remoting.Request) error {
	id, err := r.String("id")
	if err != nil {
		return err
	}
	from, err := r.Int64("from")
	if err != nil {
		return err
	}
	page, err := s.broker.RedriveResults(id, message.Offset(from), 0)
	if err != nil {
		return err
	}
	return s.okJSON(r, page)
}

func (s *session) planRedrive(r *remoting.Request) error {
	var spec broker.RedriveSpec
	if err := readJSON(r, &spec); err != nil {
		return err
	}
	from, err := r.Int64("from")
	if err != nil {
		return err
	}
	plan, err := s.broker.PlanRedrive(spec, message.Offset(from))
	if err != nil {
		return err
	}
	return s.okJSON(r, plan)
}
