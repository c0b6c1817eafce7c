package main

import (
	"context"
	"errors"
	"time"

	"github.com/merlinmq/merlin/remoting"
)

// stop closes in order, and says so in one line: what ends now is no news.
func (s *server) stop() error {
	s.stopping.Store(true)
	began, clients := time.Now(), int64(0)
	for _, p := range s.brokerPorts() {
		clients += p.Stats().Connections
	}
	err := s.close()
	if err == nil {
		s.log.Info("stopped in order", "connections", clients, "took", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// close stops the parts from the top down.
func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var errs []error
	if s.http != nil {
		s.http.ready.Store(false)
		s.http.setStage("stopping")
	}
	if r := s.registrar.Load(); r != nil {
		r.Close()
	}
	s.settle(ctx)
	for _, p := range s.brokerPorts() {
		errs = append(errs, p.Shutdown(ctx))
	}
	if s.broker != nil {
		errs = append(errs, s.broker.Close())
	}
	if s.namesPort != nil {
		errs = append(errs, s.namesPort.Shutdown(ctx))
	}
	if s.namesLoop != nil {
		s.namesLoop()
		<-s.namesDone
	}
	if s.http != nil {
		errs = append(errs, s.http.close(ctx))
	}
	return errors.Join(errs...)
}

// settleTime bounds how long connections are kept open for answers that are
// due. It is longer than a send waits for its fsync unless syncFlushTimeout is
// changed.
const settleTime = 10 * time.Second

// settle takes no more requests and answers those that wait: a stored send
// without an answer would be sent again. What cannot be answered in time does
// not keep the server from ending.
func (s *server) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	var errs []error
	for _, p := range s.brokerPorts() {
		errs = append(errs, p.StopServing(ctx))
	}
	if s.gateway != nil {
		errs = append(errs, s.gateway.Settle(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Warn("not every request was answered before the end; its client may send it again", "error", oneLine(err))
	}
}

// brokerPorts are the ports that broker clients use, those that are open.
func (s *server) brokerPorts() (open []*remoting.Server) {
	for _, p := range []*remoting.Server{s.vipPort, s.brokerPort} {
		if p != nil {
			open = append(open, p)
		}
	}
	return open
}
