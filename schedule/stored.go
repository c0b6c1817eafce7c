package schedule

import (
	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// StoredProgress returns how far each delay level was delivered, of a database
// that no Service works on: levels without any are left out.
func StoredProgress(db *kv.DB) (map[int32]message.Offset, error) {
	marks := kv.NewBucket(db, "delay", kv.Int64[message.Offset]())
	progress := make(map[int32]message.Offset)
	for n := 1; n <= 1024; n++ {
		next, found, err := marks.Get(levelMark(n))
		if err != nil {
			return nil, err
		}
		if found {
			progress[int32(n)] = next
		}
	}
	return progress, nil
}

// ForgetProgress adds to w that no level has any progress stored, so that the
// next Open goes by Options.Imported.
func ForgetProgress(db *kv.DB, w *kv.Batch) {
	marks := kv.NewBucket(db, "delay", kv.Int64[message.Offset]())
	for n := 1; n <= 1024; n++ {
		marks.DeleteTo(w, levelMark(n))
	}
}
