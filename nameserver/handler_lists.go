package nameserver

import (
	"fmt"
	"strings"

	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// listHandler has the codes that answer with a list of topics.
func (s *Server) listHandler(code int) func(*remoting.Request, Peer) (remoting.Response, error) {
	switch code {
	case remoting.ReqGetAllTopicListFromNameServer:
		return func(*remoting.Request, Peer) (remoting.Response, error) {
			if s.opt.HideAllTopics {
				return hidden("enableAllTopicList")
			}
			return ok(body.Encode(s.table.topicList(everything)))
		}
	case remoting.ReqGetTopicsByCluster:
		return func(r *remoting.Request, _ Peer) (remoting.Response, error) {
			cluster, err := r.String("cluster")
			if err != nil || s.opt.HideTopicLists {
				return s.list(nil, err)
			}
			return s.list(s.table.topicList(inCluster(cluster)), nil)
		}
	case remoting.ReqGetSystemTopicListFromNS:
		return func(_ *remoting.Request, p Peer) (remoting.Response, error) {
			return ok(body.Encode(s.table.systemTopics(p.Local)))
		}
	case remoting.ReqGetUnitTopicList:
		return s.filtered(unit)
	case remoting.ReqGetHasUnitSubTopicList:
		return s.filtered(unitSub)
	case remoting.ReqGetHasUnitSubUnUnitTopicList:
		return s.filtered(unitSubNotUnit)
	}
	return nil
}

func (s *Server) filtered(keep func(*group, body.QueueData) bool) func(*remoting.Request, Peer) (remoting.Response, error) {
	return func(*remoting.Request, Peer) (remoting.Response, error) {
		return s.list(s.table.topicList(keep), nil)
	}
}

func (s *Server) list(l *body.TopicList, err error) (remoting.Response, error) {
	switch {
	case err != nil:
		return remoting.Response{}, err
	case s.opt.HideTopicLists:
		return hidden("enableTopicList")
	}
	return ok(body.Encode(l))
}

func hidden(setting string) (remoting.Response, error) {
	return refuse(remoting.RespSystemError, "disable: this list is switched off at the name server ("+setting+"=false)"), nil
}

func (s *Server) putKV(r *remoting.Request, _ Peer) (remoting.Response, error) {
	f := fields{r: r}
	ns, key, value := f.str("namespace"), f.str("key"), f.str("value")
	if f.err != nil {
		return remoting.Response{}, f.err
	}
	if err := s.kv.put(ns, key, value); err != nil {
		return remoting.Response{}, err
	}
	return ok(nil)
}

func (s *Server) getKV(r *remoting.Request, _ Peer) (remoting.Response, error) {
	f := fields{r: r}
	ns, key := f.str("namespace"), f.str("key")
	if f.err != nil {
		return remoting.Response{}, f.err
	}
	value, found := s.kv.get(ns, key)
	if !found {
		return refuse(remoting.RespQueryNotFound, fmt.Sprintf("No config item, Namespace: %s Key: %s", clip(ns), clip(key))), nil
	}
	resp := remoting.Response{}
	resp.Fields.Str("value", value)
	return resp, nil
}

func (s *Server) deleteKV(r *remoting.Request, _ Peer) (remoting.Response, error) {
	f := fields{r: r}
	ns, key := f.str("namespace"), f.str("key")
	if f.err != nil {
		return remoting.Response{}, f.err
	}
	if err := s.kv.drop(ns, key); err != nil {
		return remoting.Response{}, err
	}
	return ok(nil)
}

func (s *Server) listKV(r *remoting.Request, _ Peer) (remoting.Response, error) {
	ns, err := r.String("namespace")
	if err != nil {
		return remoting.Response{}, err
	}
	table := s.kv.list(ns)
	if table == nil {
		return refuse(remoting.RespQueryNotFound, "No config item, Namespace: "+clip(ns)), nil
	}
	return ok(body.Encode(body.KVTable{Table: table}))
}

// blackListed are the settings that nobody may change from outside.
var blackListed = []string{"configBlackList", "configStorePath", "kvConfigPath"}

func (s *Server) updateConfig(r *remoting.Request, _ Peer) (remoting.Response, error) {
	settings, err := body.ParseProperties(r.Body)
	if err != nil {
		return remoting.Response{}, err
	}
	for _, kv := range settings {
		for _, b := range blackListed {
			if strings.EqualFold(kv.Key, b) {
				return remoting.Response{}, &codedError{remoting.RespNoPermission, "Can not update config in black list: " + b + " is set at start alone; nothing was changed"}
			}
		}
		if s.opt.UpdateConfig == nil {
			return remoting.Response{}, &codedError{remoting.RespNoPermission, "this name server takes its settings at start alone; nothing was changed"}
		}
	}
	for _, kv := range settings {
		if err := s.opt.UpdateConfig(kv.Key, kv.Value); err != nil {
			return remoting.Response{}, err
		}
	}
	return ok(nil)
}

func (s *Server) getConfig(*remoting.Request, Peer) (remoting.Response, error) {
	if s.opt.ConfigText == nil {
		return ok(nil)
	}
	return ok([]byte(s.opt.ConfigText()))
}
