package broker

import (
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
)

const (
	oldOffsets = `{"dataVersion":{"counter":1},"offsetTable":{"orders@g":{0:5}}}`
	oldTopics  = `{"topicConfigTable":{"orders":{"topicName":"orders","readQueueNums":2,"writeQueueNums":2,"perm":6}}}`
	oldDelays  = `{"offsetTable":{3:7}}`
	oldModes   = `{"messageRequestModeMap":{"orders":{"g":{"topic":"orders","consumerGroup":"g","mode":"POP","popShareQueueNum":1},"h":{"mode":"PULL"}}}}`
)

// apacheFolder is a folder that Apache's broker left.
func apacheFolder(t *testing.T) *vfs.Mem {
	t.Helper()
	fsys := vfs.NewMem()
	if err := fsys.MkdirAll("data/config"); err != nil {
		t.Fatal(err)
	}
	writeConfig(t, fsys, map[string]string{
		"consumerOffset.json": oldOffsets, "topics.json": oldTopics, "delayOffset.json": oldDelays, "messageRequestMode.json": oldModes,
		timerFile: string(encodeTimerProgress(schedule.Taken{Time: 1000, Offset: 1})),
	})
	return fsys
}

func writeConfig(t *testing.T, fsys vfs.FS, files map[string]string) {
	t.Helper()
	texts := map[string][]byte{}
	for name, text := range files {
		texts[name] = []byte(text)
	}
	if err := replaceFiles(fsys, "data/config", texts); err != nil {
		t.Fatal(err)
	}
}

// movedOn opens the tables over the folder and does what Merlin does later: the
// group commits, and delay level 3 is delivered further.
func movedOn(t *testing.T, fsys vfs.FS, db *kv.DB) *Broker {
	t.Helper()
	b := openState(t, fsys, "data", db)
	if at, _ := b.offsets.Query("g", "orders", 0); at != 5 || b.Imported().Delays[3] != 7 {
		t.Fatalf("the first import gives the offset %d and %+v", at, b.Imported())
	}
	b.offsets.Commit("g", "orders", 0, 50)
	wantKind(t, "Flush", b.offsets.Flush(), noRefusal)
	if err := levelMarks(db).Put([]byte("level/3"), 70, kv.Synced); err != nil {
		t.Fatal(err)
	}
	return b
}

// levelMarks is where schedule keeps how far levels are delivered.
func levelMarks(db *kv.DB) *kv.Bucket[message.Offset] {
	return kv.NewBucket(db, "delay", kv.Int64[message.Offset]())
}

func wantState(t *testing.T, when string, db *kv.DB, offset, level message.Offset) {
	t.Helper()
	if at, _ := must(openOffsets(db, time.Now)).Query("g", "orders", 0); at != offset {
		t.Errorf("%s: the committed offset is %d, want %d", when, at, offset)
	}
	if at, _, err := levelMarks(db).Get([]byte("level/3")); at != level || err != nil {
		t.Errorf("%s: delay level 3 is at %d, %v; want %d", when, at, err, level)
	}
}

// TestAnExportThatDiesRewindsNothing looks at the folder as the machine leaves
// it before each file operation of an export.
func TestAnExportThatDiesRewindsNothing(t *testing.T) {
	mem := apacheFolder(t)
	db := testDB(t)
	b := movedOn(t, mem, db)
	faulty := vfs.NewFaulty(mem)
	rng := rand.New(rand.NewSource(1))
	steps, renamed := 0, 0
	look := func(when string, fsys vfs.FS) {
		im, err := importApache(fsys, "data", db, time.Now())
		if err != nil || im.Done || len(im.Notes) > 0 {
			t.Errorf("%s: the next start imports %+v, %v", when, im, err)
		}
		wantState(t, when, db, 50, 70)
	}
	faulty.Hook(func(op vfs.Op) {
		if !op.Changes() {
			return
		}
		steps++
		if op.Kind == vfs.KindRename {
			renamed++
		}
		for range 3 {
			look("before "+op.Kind.String()+" of "+op.Name, mem.CrashClone(rng))
		}
	})
	if err := b.exportApache(faulty, "data", &handedOver{levels: map[int32]message.Offset{3: 70}, timer: schedule.Taken{Time: 2000, Offset: 9}}); err != nil {
		t.Fatal(err)
	}
	look("at the end", mem.CrashClone(nil))
	if renamed != 7 || steps < 20 {
		t.Errorf("%d steps, %d files renamed", steps, renamed)
	}
}

func TestOnlyChangedFilesAreTakenOverAgain(t *testing.T) {
	timer := string(encodeTimerProgress(schedule.Taken{Time: 3000, Offset: 4}))
	for _, c := range []struct {
		name   string
		files  map[string]string
		offset message.Offset
		level  message.Offset // as stored; 0 means forgotten
		queues int32
	}{
		{"none", nil, 50, 70, 2},
		{"topics", map[string]string{"topics.json": strings.ReplaceAll(oldTopics, "2", "4")}, 50, 70, 4},
		{"offsets", map[string]string{"consumerOffset.json": strings.ReplaceAll(oldOffsets, "5", "6")}, 6, 70, 2},
		{"levels", map[string]string{"delayOffset.json": strings.ReplaceAll(oldDelays, "7", "8")}, 50, 0, 2},
		{"timer", map[string]string{timerFile: timer}, 50, 0, 2},
		{"modes", map[string]string{"messageRequestMode.json": strings.ReplaceAll(oldModes, "POP", "PULL")}, 50, 70, 2},
		{"a copy beside a file", map[string]string{"topics.json.bak": strings.ReplaceAll(oldTopics, "2", "4")}, 50, 70, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys, db := apacheFolder(t), testDB(t)
			movedOn(t, fsys, db)
			writeConfig(t, fsys, c.files)
			again := openState(t, fsys, "data", db)
			wantState(t, c.name, db, c.offset, c.level)
			if got := again.topics.LookupString("orders").ReadQueues; got != c.queues {
				t.Errorf("the topic has %d queues, want %d", got, c.queues)
			}
			want := message.Offset(7)
			if c.name == "levels" {
				want = 8
			}
			if got := again.Imported().Delays[3]; got != want {
				t.Errorf("imported delays: %d, want %d", got, want)
			}
			if m := must(again.requestMode("orders", "g")); m.Pop == (c.name == "modes") || m.Shared != 1 {
				t.Errorf("the group's mode is %+v", m)
			}
			if im := openState(t, fsys, "data", db).Imported(); im.Done || len(im.Notes) > 0 {
				t.Errorf("the start after that imports %+v", im)
			}
		})
	}
	t.Run("the file is gone and its copy is newer", func(t *testing.T) {
		fsys, db := apacheFolder(t), testDB(t)
		movedOn(t, fsys, db)
		writeConfig(t, fsys, map[string]string{"consumerOffset.json.bak": strings.ReplaceAll(oldOffsets, "5", "8")})
		if err := fsys.Remove("data/config/consumerOffset.json"); err != nil {
			t.Fatal(err)
		}
		openState(t, fsys, "data", db)
		wantState(t, "the copy", db, 8, 70)
	})
}

// TestMarksOfFormat0: they have the sums of four files. The others count as
// unchanged when those are.
func TestMarksOfFormat0(t *testing.T) {
	fsys, db := apacheFolder(t), testDB(t)
	old := func() {
		t.Helper()
		mark, _, err := readImportMark(importMarks(db))
		if err != nil {
			t.Fatal(err)
		}
		mark.Format = 0
		delete(mark.Sums, timerFile)
		delete(mark.Sums, "messageRequestMode.json")
		if err := importMarks(db).Put([]byte(importKey), mark, kv.Synced); err != nil {
			t.Fatal(err)
		}
	}
	movedOn(t, fsys, db)
	old()
	if im := openState(t, fsys, "data", db).Imported(); im.Done {
		t.Errorf("imported %+v", im)
	}
	wantState(t, "unchanged", db, 50, 70)
	old()
	writeConfig(t, fsys, map[string]string{"consumerOffset.json": strings.ReplaceAll(oldOffsets, "5", "6")})
	openState(t, fsys, "data", db)
	wantState(t, "changed", db, 6, 0)
}
