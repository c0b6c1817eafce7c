package remoting

import "sync/atomic"

// Stats are a server's counters, as they are at one moment. Gauges are
// Connections, InputBytes and OutputBytes; the rest only grows.
type Stats struct {
	Connections int64
	Accepted    int64
	Refused     int64 // at the door: MaxConns, or no file descriptor left

	FramesIn, FramesOut int64
	BytesIn, BytesOut   int64
	InputBytes          int64 // received and not served yet
	OutputBytes         int64 // answered and not yet taken by a socket

	Braked      int64 // times that a peer was kept from sending
	Busy        int64 // requests answered SYSTEM_BUSY here
	BadFrames   int64 // headers that could not be read
	Unanswered  int64 // of those, the ones without anybody to tell
	Panics      int64
	LateAnswers int64         // answers to calls of ours that nobody waits for any more
	Closed      [causes]int64 // by Cause
}

type counters struct {
	conns, accepted, refused                          atomic.Int64
	framesIn, framesOut, bytesIn, bytesOut            atomic.Int64
	input, output                                     atomic.Int64
	braked, busy, badFrames, unanswered, panics, late atomic.Int64
	closed                                            [causes]atomic.Int64
}

// Stats reads the counters. They are read one after the other, so sums that
// should agree may be off by what happened in between.
func (s *Server) Stats() Stats {
	n := &s.counters
	st := Stats{
		Connections: n.conns.Load(), Accepted: n.accepted.Load(), Refused: n.refused.Load(),
		FramesIn: n.framesIn.Load(), FramesOut: n.framesOut.Load(),
		BytesIn: n.bytesIn.Load(), BytesOut: n.bytesOut.Load(),
		InputBytes: n.input.Load(), OutputBytes: n.output.Load(),
		Braked: n.braked.Load(), Busy: n.busy.Load(), BadFrames: n.badFrames.Load(), Unanswered: n.unanswered.Load(),
		Panics: n.panics.Load(), LateAnswers: n.late.Load(),
	}
	for i := range st.Closed {
		st.Closed[i] = n.closed[i].Load()
	}
	return st
}
