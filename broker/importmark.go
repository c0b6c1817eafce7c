package broker

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// importMark is stored once a folder was looked at, so that Apache's files,
// which stay where they are, are taken over only once.
type importMark struct {
	At     int64                    `json:"at"` // ms
	Files  []string                 `json:"files,omitempty"`
	Delays map[int32]message.Offset `json:"delays,omitempty"`
	// Sums are the CRCs of the files when they were taken over or exported. One
	// that differs was written by Apache's broker since, or by hand.
	Sums map[string]uint32 `json:"sums,omitempty"`
	// Exporting are those of an export that has not come to its end: a file may
	// be as it was before or as it is to be, and both are known.
	Exporting map[string]uint32 `json:"exporting,omitempty"`
	// Format is 0 where only the files of firstTracked have sums.
	Format int `json:"format,omitempty"`
}

const importFormat = 1

var firstTracked = []string{"topics.json", "subscriptionGroup.json", "consumerOffset.json", "delayOffset.json"}

// timerFile is where the timer of Apache's broker keeps how far it is.
const timerFile = "timercheck"

// importSteps say what is taken over when one of the files has changed.
var importSteps = []struct {
	files []string
	run   func(*importer) error
}{
	{[]string{"topics.json"}, (*importer).topics},
	{[]string{"subscriptionGroup.json"}, (*importer).groups},
	{[]string{"consumerOffset.json"}, (*importer).offsets},
	{[]string{"delayOffset.json", timerFile}, (*importer).delays},
	{[]string{"consumerFilter.json"}, (*importer).filters},
	{[]string{"messageRequestMode.json"}, (*importer).modes},
}

// apacheSums returns the CRCs of the files that are there. One that is missing
// or empty counts as its .bak, from which it would be read; copies has those.
func apacheSums(fsys vfs.FS, dir string) (sums map[string]uint32, copies []string, err error) {
	sums = map[string]uint32{}
	for _, step := range importSteps {
		for _, name := range step.files {
			text, err := readIfThere(fsys, filepath.Join(dir, name))
			if err == nil && len(text) == 0 && name != timerFile {
				if text, err = readIfThere(fsys, filepath.Join(dir, name+".bak")); len(text) > 0 {
					copies = append(copies, name)
				}
			}
			if err != nil {
				return nil, nil, fmt.Errorf("read the settings of Apache's broker: %w", err)
			}
			if len(text) > 0 {
				sums[name] = crc32.ChecksumIEEE(text)
			}
		}
	}
	return sums, copies, nil
}

func readIfThere(fsys vfs.FS, path string) ([]byte, error) {
	text, err := readFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// changed tells whether one of the files is there and is not as it was taken
// over or exported.
func (m *importMark) changed(sums map[string]uint32, files ...string) bool {
	for _, name := range files {
		sum, there := sums[name]
		if !there {
			continue
		}
		old, known := m.Sums[name]
		next, exporting := m.Exporting[name]
		if !(known && old == sum) && !(exporting && next == sum) {
			return true
		}
	}
	return false
}

// adopt gives a mark of format 0 the sums that it lacks: those files are as
// they were, if the ones that it knows are.
func (m *importMark) adopt(sums map[string]uint32, copies []string) {
	if m.Format >= importFormat {
		return
	}
	m.Format = importFormat
	first := slices.DeleteFunc(slices.Clone(firstTracked), func(name string) bool { return slices.Contains(copies, name) })
	if m.changed(sums, first...) {
		return
	}
	for name, sum := range sums {
		if _, known := m.Sums[name]; !known {
			m.Sums[name] = sum
		}
	}
}

const importKey = "apache"

func importMarks(db *kv.DB) *kv.Bucket[importMark] {
	return kv.NewBucket(db, "import", kv.JSON[importMark]())
}

// readImportMark returns the mark, an empty one if there is none.
func readImportMark(marks *kv.Bucket[importMark]) (m importMark, found bool, err error) {
	m, found, err = marks.Get([]byte(importKey))
	if m.Sums == nil {
		m.Sums = map[string]uint32{}
	}
	return m, found, err
}

// importApache takes over the settings and offsets that Apache's broker left
// in the data folder, the first time that Merlin opens it, and of the files that
// have changed since: all of them or none.
// Call it before the tables are opened.
func importApache(fsys vfs.FS, dataDir string, db *kv.DB, now time.Time) (ApacheImport, error) {
	marks := importMarks(db)
	mark, found, err := readImportMark(marks)
	if err != nil {
		return ApacheImport{}, err
	}
	im := importer{fs: fsys, dir: filepath.Join(dataDir, apacheConfigDir), db: db, now: now, again: found}
	sums, copies, err := apacheSums(fsys, im.dir)
	if err != nil {
		return ApacheImport{}, err
	}
	before := mark.Format
	mark.adopt(sums, copies)
	im.report.Delays = mark.Delays
	for _, step := range importSteps {
		if found && !mark.changed(sums, step.files...) {
			continue
		}
		if err := step.run(&im); err != nil {
			return ApacheImport{}, err
		}
	}
	if found && len(im.files) == 0 && im.batch.Len() == 0 && before == importFormat {
		return im.report, nil
	}
	if found && len(im.files) > 0 {
		im.report.Notes = append(im.report.Notes, fmt.Sprintf(
			"%s changed since Merlin took over the folder or exported it, as when Apache's broker has used it; what is in there is taken over again", strings.Join(im.files, ", ")))
	}
	mark.At, mark.Files, mark.Delays, mark.Exporting = now.UnixMilli(), im.files, im.report.Delays, nil
	maps.Copy(mark.Sums, sums)
	if err := marks.PutTo(&im.batch, []byte(importKey), mark); err != nil {
		return ApacheImport{}, err
	}
	im.report.Done = len(im.files) > 0
	return im.report, db.Write(&im.batch, kv.Synced)
}
