package gateway

import (
	"fmt"

	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/remoting"
)

// QUERY_MESSAGE 12, VIEW_MESSAGE_BY_ID 33
//
//   - 12 with _UNIQUE_KEY_QUERY=true looks for a unique id, and then maxNum is
//     the broker's own, defaultQueryMaxNum; indexType (5.5.0) is U, K or T for tags.
//   - Both give records as they are stored.
//   - A position that holds no record is SYSTEM_ERROR, a key that nobody has
//     QUERY_NOT_FOUND, with the index's last position and time all the same.
//   - Difference: topic and key are compared on the record, so that no message
//     is found by a hash alone.

func (s *session) viewMessage(r *remoting.Request) error {
	offset, err := r.Int64("offset")
	if err != nil {
		return err
	}
	record, err := s.broker.Record(message.Position(offset))
	if err != nil {
		return err
	}
	return s.okBody(r, record)
}

func (s *session) queryMessage(r *remoting.Request) error {
	q, err := readKeyQuery(r)
	if err != nil {
		return err
	}
	if q.Kind == broker.UniqueKey {
		q.Max = int(s.broker.Settings().QueryMax.Load())
	}
	found, err := s.broker.QueryMessages(&q, nil)
	if err != nil {
		return err
	}
	w := s.conn.Reply(r, remoting.RespSuccess)
	if found.Count == 0 {
		w.Code(remoting.RespQueryNotFound).Remark("can not find message, maybe time range not correct")
	} else {
		w.Body(found.Body)
	}
	return w.Int("indexLastUpdatePhyoffset", int64(found.LastPosition)).Int("indexLastUpdateTimestamp", found.LastTime).End()
}

func readKeyQuery(r *remoting.Request) (q broker.KeyQuery, err error) {
	if q.Topic, err = r.String("topic"); err != nil {
		return q, notFound(err)
	}
	if q.Key, err = r.String("key"); err != nil {
		return q, notFound(err)
	}
	limit, err := r.Int32("maxNum")
	if err != nil {
		return q, err
	}
	q.Max = int(limit)
	if q.Begin, err = r.Int64("beginTimestamp"); err != nil {
		return q, err
	}
	if q.End, err = r.Int64("endTimestamp"); err != nil {
		return q, err
	}
	unique, err := r.BoolOr("_UNIQUE_KEY_QUERY", false)
	if err != nil {
		return q, err
	}
	switch kind := r.StringOr("indexType", ""); {
	case unique || kind == "U":
		q.Kind = broker.UniqueKey
	case kind == "T":
		q.Kind = broker.TagKey
	case kind == "" || kind == "K":
	default:
		return q, &broker.Error{Kind: broker.KindInvalidParameter, Text: fmt.Sprintf("the index type %q is none of K (key), U (unique id) and T (tag)", kind)}
	}
	return q, nil
}
