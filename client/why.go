package client

import (
	"context"

	"github.com/merlinmq/merlin/remoting"
)

// TopicWhy says why a topic has a route or none, as one name server sees it.
type TopicWhy struct {
	NameServer string   `json:"name_server"`
	Topic      string   `json:"topic"`
	Brokers    []string `json:"brokers"`    // that have it now
	Gone       []string `json:"gone"`       // sentences about brokers that had it
	Registered int      `json:"registered"` // brokers, whatever they have
	Cause      string   `json:"cause"`      // why there is no route and what to do; "" where there is one
}

// WhyTopic asks every name server why a topic has a route or none. Only
// Merlin's name servers know.
func (a *Admin) WhyTopic(ctx context.Context, topic string) ([]TopicWhy, error) {
	var all []TopicWhy
	for _, addr := range a.nameServers {
		var f remoting.Fields
		f.Str("topic", topic)
		w := TopicWhy{NameServer: addr}
		if err := a.callInto(ctx, roleNameServer, addr, "ask why "+topic+" has a route or none", remoting.ReqWhyTopic, f, nil, &w); err != nil {
			return all, err
		}
		all = append(all, w)
	}
	return all, nil
}
