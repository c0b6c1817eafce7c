package gateway

import (
	"github.com/merlinmq/merlin/broker"
	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// GET_CONSUMER_CONNECTION_LIST 203, GET_PRODUCER_CONNECTION_LIST 204,
// GET_ALL_PRODUCER_INFO 328
//
//   - 203 has the field subscriptionConflict, a sentence, while the members of the
//     group subscribe to different things.
//   - 203 of a group without members is CONSUMER_NOT_ONLINE, 204 SYSTEM_ERROR.

func connectionOf(c *broker.ClientInfo) body.Connection {
	return body.Connection{
		ClientID: c.ID, ClientAddr: c.Client.RemoteAddr().String(),
		Language: remoting.LanguageName(c.Language), Version: c.Version,
	}
}

var (
	consumeTypes  = map[broker.ConsumeType]body.ConsumeType{broker.ConsumeActively: body.ConsumeActively, broker.ConsumePassively: body.ConsumePassively, broker.ConsumePop: body.ConsumePop}
	messageModels = map[broker.MessageModel]body.MessageModel{broker.Clustering: body.Clustering, broker.Broadcasting: body.Broadcasting}
	consumeFroms  = map[broker.ConsumeFrom]body.ConsumeFromWhere{broker.FromLastOffset: body.FromLastOffset, broker.FromFirstOffset: body.FromFirstOffset, broker.FromTimestamp: body.FromTimestamp}
)

func (s *session) consumerConnections(r *remoting.Request) error {
	name, err := r.String("consumerGroup")
	if err != nil {
		return err
	}
	group, online := s.broker.Clients().Consumers(name)
	if !online {
		return &broker.Error{Kind: broker.KindConsumerNotOnline, Text: "the consumer group[" + name + "] not online"}
	}
	out := body.ConsumerConnection{
		ConsumeType: consumeTypes[group.Type], MessageModel: messageModels[group.Model], ConsumeFromWhere: consumeFroms[group.From],
		SubscriptionTable: make(map[string]body.SubscriptionData, len(group.Subscriptions)),
	}
	for i := range group.Members {
		out.ConnectionSet = append(out.ConnectionSet, connectionOf(&group.Members[i]))
	}
	for _, sub := range group.Subscriptions {
		out.SubscriptionTable[sub.Topic] = subscriptionBody(sub)
	}
	w := s.conn.Reply(r, remoting.RespSuccess).Body(body.Encode(out))
	if conflict := s.broker.Clients().Conflict(name); conflict != "" {
		w.Str("subscriptionConflict", conflict)
	}
	return w.End()
}

func (s *session) producerConnections(r *remoting.Request) error {
	name, err := r.String("producerGroup")
	if err != nil {
		return err
	}
	members := s.broker.Clients().Producers(name)
	if len(members) == 0 {
		return &broker.Error{Kind: broker.KindSystem, Text: "the producer group[" + name + "] not exist"}
	}
	var out body.ProducerConnection
	for i := range members {
		out.ConnectionSet = append(out.ConnectionSet, connectionOf(&members[i]))
	}
	return s.okBody(r, body.Encode(out))
}

func (s *session) allProducers(r *remoting.Request) error {
	clients := s.broker.Clients()
	out := body.ProducerTableInfo{Data: map[string][]body.ProducerInfo{}}
	for _, group := range clients.ProducerGroups() {
		for _, p := range clients.Producers(group) {
			out.Data[group] = append(out.Data[group], body.ProducerInfo{
				ClientID: p.ID, RemoteIP: p.Client.RemoteAddr().String(), Language: remoting.LanguageName(p.Language),
				Version: p.Version, LastUpdateTimestamp: p.LastHeartbeat.UnixMilli(),
			})
		}
	}
	return s.okBody(r, body.Encode(out))
}
