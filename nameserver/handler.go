package nameserver

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// Connected implements remoting.Handler.
func (s *Server) Connected(*remoting.Conn) {}

// Closed takes out the brokers that registered over the connection.
func (s *Server) Closed(c *remoting.Conn) { s.table.disconnected(c) }

// Serve answers the requests of one read, in order.
func (s *Server) Serve(c *remoting.Conn, frames []remoting.Request) {
	p := Peer{Local: c.LocalAddr().Addr(), Remote: c.RemoteAddr().Addr(), Link: c}
	for i := range frames {
		// An answer that cannot be sent has nobody to be told to: the connection is gone.
		_ = c.Answer(&frames[i], s.answer(&frames[i], p))
	}
}

// answer is what a request is answered, whatever carries it.
func (s *Server) answer(r *remoting.Request, p Peer) remoting.Response {
	handle := s.handler(r.Code)
	if handle == nil {
		return refuse(remoting.RespRequestCodeNotSupported, fmt.Sprintf(
			"request type %d not supported: this is a name server, it knows routes and KV configuration; send %s to a broker", r.Code, remoting.CodeName(r.Code)))
	}
	resp, err := handle(r, p)
	if err != nil {
		code := remoting.RespSystemError
		var coded *codedError
		if errors.As(err, &coded) {
			code = coded.code
		}
		return refuse(code, err.Error())
	}
	return resp
}

func (s *Server) handler(code int) func(*remoting.Request, Peer) (remoting.Response, error) {
	switch code {
	case remoting.ReqGetRouteInfoByTopic:
		return s.getRoute
	case remoting.ReqRegisterBroker:
		return s.registerBroker
	case remoting.ReqUnregisterBroker:
		return s.unregisterBroker
	case remoting.ReqQueryDataVersion:
		return s.queryDataVersion
	case remoting.ReqBrokerHeartbeat:
		return s.brokerHeartbeat
	case remoting.ReqWhyTopic:
		return s.whyTopic
	case remoting.ReqGetBrokerMemberGroup:
		return s.getMemberGroup
	case remoting.ReqGetBrokerClusterInfo:
		return s.getClusterInfo
	case remoting.ReqRegisterTopicInNameServer:
		return s.registerTopic
	case remoting.ReqDeleteTopicInNameServer:
		return s.deleteTopic
	case remoting.ReqWipeWritePermOfBroker:
		return s.wipeWritePerm
	case remoting.ReqAddWritePermOfBroker:
		return s.addWritePerm
	case remoting.ReqPutKVConfig:
		return s.putKV
	case remoting.ReqGetKVConfig:
		return s.getKV
	case remoting.ReqDeleteKVConfig:
		return s.deleteKV
	case remoting.ReqGetKVListByNamespace:
		return s.listKV
	case remoting.ReqUpdateNameServerConfig:
		return s.updateConfig
	case remoting.ReqGetNameServerConfig:
		return s.getConfig
	}
	return s.listHandler(code)
}

// codedError is a refusal with a code of its own.
type codedError struct {
	code int
	text string
}

func (e *codedError) Error() string { return e.text }

func refuse(code int, remark string) remoting.Response {
	return remoting.Response{Code: code, Remark: remark}
}

func ok(data []byte) (remoting.Response, error) { return remoting.Response{Body: data}, nil }

// fields collects header fields and the first thing that is wrong with them.
type fields struct {
	r   *remoting.Request
	err error
}

func (f *fields) str(key string) string {
	v, err := f.r.String(key)
	f.note(err)
	return v
}

func (f *fields) int64(key string) int64 {
	v, err := f.r.Int64(key)
	f.note(err)
	return v
}

func (f *fields) int64Or(key string, def int64) int64 {
	v, err := f.r.Int64Or(key, def)
	f.note(err)
	return v
}

func (f *fields) boolOr(key string, def bool) bool {
	v, err := f.r.BoolOr(key, def)
	f.note(err)
	return v
}

func (f *fields) note(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (s *Server) getRoute(r *remoting.Request, p Peer) (remoting.Response, error) {
	if now := s.opt.Now(); now.Before(s.ready) {
		return refuse(remoting.RespSystemError, fmt.Sprintf("name server not ready: it waits for brokers to register, %s more (needWaitForService)", s.ready.Sub(now).Round(time.Second))), nil
	}
	f := fields{r: r}
	topic, standard := f.str("topic"), f.boolOr("acceptStandardJsonOnly", false)
	if f.err != nil {
		return remoting.Response{}, f.err
	}
	order := ""
	if s.opt.OrderMessages {
		conf, _ := s.kv.get(orderNamespace, topic)
		order = orderConf(conf)
	}
	s.routes.Add(1)
	if text := s.table.route(topic, order, p.Local, standard || r.Version >= remoting.Version4_9_4); text != nil {
		return ok(text)
	}
	s.misses.Add(1)
	return refuse(remoting.RespTopicNotExist, s.table.why(topic).remark()), nil
}

func (s *Server) registerBroker(r *remoting.Request, p Peer) (remoting.Response, error) {
	f := fields{r: r}
	reg := Registration{Cluster: f.str("clusterName"), Broker: f.str("brokerName"), ID: f.int64("brokerId"), Addr: f.str("brokerAddr"),
		HAAddr: r.StringOr("haServerAddr", ""), Zone: r.StringOr("__ZONE_NAME", ""), Auto: f.boolOr(FieldAutoAddr, false),
		Timeout:      time.Duration(min(f.int64Or("heartbeatTimeoutMillis", 0), maxTimeoutMillis)) * time.Millisecond,
		ActingMaster: f.boolOr("enableActingMaster", false), KnowsActing: r.Has("enableActingMaster")}
	want := f.int64Or("bodyCrc32", 0)
	if f.err != nil {
		return remoting.Response{}, f.err
	}
	if have := int64(crc32.ChecksumIEEE(r.Body) & 0x7fffffff); want != 0 && want != have {
		return refuse(remoting.RespSystemError, fmt.Sprintf("crc32 not match: the header says %d, the body of %d bytes has %d", want, len(r.Body), have)), nil
	}
	b, err := body.DecodeRegisterBroker(r.Body, r.Version)
	if err != nil {
		return remoting.Response{}, fmt.Errorf("the registration of broker %s does not read: %w", clip(reg.Broker), err)
	}
	reg.Body = b
	answer, done := s.register(reg, p)
	if !done {
		return refuse(remoting.RespSystemError, "register broker failed: the first registration must carry the whole topic table, this one has a single topic"), nil
	}
	resp := remoting.Response{}
	if answer.masterAddr != "" {
		resp.Fields.Str("haServerAddr", answer.haServerAddr)
		resp.Fields.Str("masterAddr", answer.masterAddr)
	}
	if !s.opt.HideOrderConf {
		if conf := s.kv.list(orderNamespace); len(conf) > 0 {
			resp.Body = body.Encode(body.KVTable{Table: conf})
		}
	}
	return resp, nil
}

// maxTimeoutMillis bounds what a broker may claim: a year.
const maxTimeoutMillis = 365 * 24 * 3600 * 1000

func (s *Server) unregisterBroker(r *remoting.Request, p Peer) (remoting.Response, error) {
	f := fields{r: r}
	broker, addr, id := f.str("brokerName"), f.str("brokerAddr"), f.int64("brokerId")
	if f.err != nil {
		return remoting.Response{}, f.err
	}
	s.table.unregister(broker, addr, id, p)
	return ok(nil)
}

func (s *Server) queryDataVersion(r *remoting.Request, p Peer) (remoting.Response, error) {
	f := fields{r: r}
	broker, addr := f.str("brokerName"), f.str("brokerAddr")
	if f.err != nil {
		return remoting.Response{}, f.err
	}
	var theirs body.DataVersion
	if err := body.Decode(r.Body, &theirs); err != nil {
		return remoting.Response{}, fmt.Errorf("the data version of broker %s does not read: %w", clip(broker), err)
	}
	ours, known := s.table.version(broker, addr, p)
	changed := !known || ours != theirs
	if !changed {
		s.table.beat(broker, addr, p)
	}
	resp := remoting.Response{}
	resp.Fields.Bool("changed", changed)
	if known {
		resp.Body = body.Encode(ours)
	}
	return resp, nil
}

func (s *Server) brokerHeartbeat(r *remoting.Request, p Peer) (remoting.Response, error) {
	f := fields{r: r}
	broker, addr := f.str("brokerName"), f.str("brokerAddr")
	if f.err != nil {
		return remoting.Response{}, f.err
	}
	s.table.beat(broker, addr, p)
	return ok(nil)
}

func (s *Server) getMemberGroup(r *remoting.Request, p Peer) (remoting.Response, error) {
	f := fields{r: r}
	cluster, broker := f.str("clusterName"), f.str("brokerName")
	if f.err != nil {
		return remoting.Response{}, f.err
	}
	return ok(body.Encode(body.BrokerMemberGroupResponse{Group: s.table.memberGroup(cluster, broker, p.Local)}))
}

func (s *Server) getClusterInfo(r *remoting.Request, p Peer) (remoting.Response, error) {
	standard, err := r.BoolOr("acceptStandardJsonOnly", false)
	if err != nil {
		return remoting.Response{}, err
	}
	if info := s.table.clusterInfo(p.Local); standard {
		return ok(body.EncodeStandard(info))
	} else {
		return ok(body.Encode(info))
	}
}

func (s *Server) registerTopic(r *remoting.Request, _ Peer) (remoting.Response, error) {
	topic, err := r.String("topic")
	if err != nil {
		return remoting.Response{}, err
	}
	var route body.RouteData
	if len(r.Body) > 0 {
		if err := body.Decode(r.Body, &route); err != nil {
			return remoting.Response{}, fmt.Errorf("the queues of topic %s do not read: %w", clip(topic), err)
		}
	}
	if unknown := s.table.registerTopic(topic, route.QueueDatas); len(unknown) > 0 {
		return remoting.Response{Remark: "not registered for these brokers, which are unknown here: " + clip(strings.Join(unknown, ", "))}, nil
	}
	return ok(nil)
}

func (s *Server) deleteTopic(r *remoting.Request, _ Peer) (remoting.Response, error) {
	topic, err := r.String("topic")
	if err != nil {
		return remoting.Response{}, err
	}
	s.table.deleteTopic(topic, r.StringOr("clusterName", ""))
	return ok(nil)
}

func (s *Server) wipeWritePerm(r *remoting.Request, _ Peer) (remoting.Response, error) {
	return s.changePerm(r, "wipeTopicCount", func(perm int32) int32 { return perm &^ permWrite })
}

func (s *Server) addWritePerm(r *remoting.Request, _ Peer) (remoting.Response, error) {
	return s.changePerm(r, "addTopicCount", func(int32) int32 { return permRead | permWrite })
}

func (s *Server) changePerm(r *remoting.Request, count string, change func(int32) int32) (remoting.Response, error) {
	broker, err := r.String("brokerName")
	if err != nil {
		return remoting.Response{}, err
	}
	resp := remoting.Response{}
	resp.Fields.Int(count, int64(s.table.changePerm(broker, change)))
	return resp, nil
}
