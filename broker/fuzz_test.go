package broker

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/test/golden"
)

// FuzzImport puts any bytes in any file of Apache's config folder: the import
// takes them or says why not, and what it has stored can be opened and exported.
func FuzzImport(f *testing.F) {
	var names []string
	for _, step := range importSteps {
		names = append(names, step.files...)
	}
	for _, archive := range []string{golden.Clean550, golden.Clean497} {
		dir, _ := golden.Unpack(f, archive)
		for i, name := range names {
			if text, err := readIfThere(vfs.OS, filepath.Join(dir, apacheConfigDir, name)); err != nil {
				f.Fatal(err)
			} else if len(text) > 0 {
				f.Add(uint8(i), text, []byte(nil))
				f.Add(uint8(i), text[:len(text)/2], text)
			}
		}
	}
	f.Add(uint8(slices.Index(names, "messageRequestMode.json")), []byte(oldModes), []byte(nil))
	f.Add(uint8(slices.Index(names, "consumerOffset.json")), []byte(`{"offsetTable":{"t@g":{-1:-9223372036854775808,2147483647:1}}}`), []byte(nil))
	f.Fuzz(func(t *testing.T, file uint8, text, older []byte) {
		name := names[int(file)%len(names)]
		fsys := vfs.NewMem()
		if err := errors.Join(fsys.MkdirAll("data/config"), replaceFiles(fsys, "data/config", map[string][]byte{name: text, name + ".bak": older})); err != nil {
			t.Fatal(err)
		}
		db, err := kv.Open("memory", kv.Options{Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := readTimerProgress(fsys, "data/config/"+timerFile); err != nil {
			t.Fatal(err)
		}
		if _, err := importApache(fsys, "data", db, time.UnixMilli(1)); err != nil {
			return // said, and nothing is taken
		}
		b := openState(t, fsys, "data", db)
		if b.Imported().Done {
			t.Error("the files were taken over a second time")
		}
		if err := b.exportApache(fsys, "data", &handedOver{}); err != nil {
			t.Fatal(err)
		}
		openState(t, fsys, "data", db)
	})
}
