package schedule

import "github.com/merlinmq/merlin/internal/kv"

// ForgetProgress adds to w that nothing is known of what waits: another broker
// has delivered since. The next Open goes by Options.Imported and Options.Taken
// and makes the rows anew from the log. Schedules stay.
func ForgetProgress(db *kv.DB, w *kv.Batch) error {
	r := newRows(db)
	for n := 1; n <= 1024; n++ {
		r.marks.DeleteTo(w, levelMark(n))
	}
	r.marks.DeleteTo(w, []byte(markIndexed))
	err := r.timed.Range(nil, nil, func(key []byte, _ []byte) bool { r.timed.DeleteTo(w, key); return true })
	if err == nil {
		err = r.counts.Range(nil, nil, func(key []byte, _ int64) bool { r.counts.DeleteTo(w, key); return true })
	}
	if err == nil {
		err = r.skips.Range(nil, nil, func(key []byte, _ int64) bool { r.skips.DeleteTo(w, key); return true })
	}
	return err
}
