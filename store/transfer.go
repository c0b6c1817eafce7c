package store

import "sync/atomic"

// Default limits of what one Get gives: Apache's.
const (
	defaultHotCount, defaultHotBytes   = 32, 256 << 10
	defaultColdCount, defaultColdBytes = 8, 64 << 10
)

// TransferLimits bound what one Get gives, apart for recent messages, which
// are in memory, and old ones. They may change while the store is used; 0 and
// less is the default. One message is given whatever its size.
type TransferLimits struct {
	HotCount  atomic.Int64 // messages, default 32
	HotBytes  atomic.Int64 // of records, default 256 KiB
	ColdCount atomic.Int64 // messages, default 8
	ColdBytes atomic.Int64 // of records, default 64 KiB
}

// limits are TransferLimits as one Get saw them.
type limits struct{ hotCount, hotBytes, coldCount, coldBytes int }

func (t *TransferLimits) now() limits {
	return limits{
		hotCount: limitOr(&t.HotCount, defaultHotCount), hotBytes: limitOr(&t.HotBytes, defaultHotBytes),
		coldCount: limitOr(&t.ColdCount, defaultColdCount), coldBytes: limitOr(&t.ColdBytes, defaultColdBytes),
	}
}

func limitOr(value *atomic.Int64, otherwise int) int {
	if n := int(value.Load()); n > 0 {
		return n
	}
	return otherwise
}

// of returns the limits of recent messages, or of old ones.
func (l *limits) of(cold bool) (count, bytes int) {
	if cold {
		return l.coldCount, l.coldBytes
	}
	return l.hotCount, l.hotBytes
}
