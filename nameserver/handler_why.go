package nameserver

import (
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// whyAnswer is the body of ReqWhyTopic.
type whyAnswer struct {
	Topic      string   `json:"topic"`
	Brokers    []string `json:"brokers"`
	Gone       []string `json:"gone"` // sentences about brokers that had it
	Registered int      `json:"registered"`
	Cause      string   `json:"cause"` // why there is no route and what to do; "" where there is one
}

func (s *Server) whyTopic(r *remoting.Request, _ Peer) (remoting.Response, error) {
	f := fields{r: r}
	topic := f.str("topic")
	if f.err != nil {
		return remoting.Response{}, f.err
	}
	w := s.Why(topic)
	out := whyAnswer{Topic: topic, Brokers: w.Brokers, Gone: []string{}, Registered: w.Registered, Cause: w.Cause()}
	for _, d := range w.Gone {
		out.Gone = append(out.Gone, d.String())
	}
	return ok(body.Encode(out))
}
