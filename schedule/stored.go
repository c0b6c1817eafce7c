package schedule

import (
	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// ForgetProgress adds to w that no level has any progress stored, so that the
// next Open goes by Options.Imported: another broker has delivered since.
func ForgetProgress(db *kv.DB, w *kv.Batch) {
	marks := kv.NewBucket(db, "delay", kv.Int64[message.Offset]())
	for n := 1; n <= 1024; n++ {
		marks.DeleteTo(w, levelMark(n))
	}
}
