package bench

import "sync/atomic"

// ledger is a growing set of message numbers, one bit each.
type ledger struct{ words []uint64 }

// add puts n numbers from seq on into the set. One goroutine at a time.
func (l *ledger) add(seq uint64, n int) {
	for ; n > 0; n-- {
		for seq>>6 >= uint64(len(l.words)) {
			l.words = append(l.words, 0)
		}
		l.words[seq>>6] |= 1 << (seq & 63)
		seq++
	}
}

func (l *ledger) has(seq uint64) bool {
	return seq>>6 < uint64(len(l.words)) && l.words[seq>>6]&(1<<(seq&63)) != 0
}

// mark puts seq into a set made for numbers below limit and tells whether it
// was there before. Safe for concurrent use; seq must be below limit.
func (l *ledger) mark(seq uint64) (again bool) {
	bit := uint64(1) << (seq & 63)
	return atomic.OrUint64(&l.words[seq>>6], bit)&bit != 0
}

// newLedger makes a set for mark.
func newLedger(limit uint64) *ledger { return &ledger{words: make([]uint64, limit>>6+1)} }
