package broker

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/test/golden"
)

// openState opens the tables alone, as Open does.
func openState(t *testing.T, fsys vfs.FS, dir string, db *kv.DB) *Broker {
	t.Helper()
	b := &Broker{db: db, cfg: DefaultSettings(), now: time.Now, events: Events{Warn: func(string, ...any) {}}}
	for _, step := range []func() error{
		func() error { return b.takeOver(fsys, dir) },
		func() error { b.modes = openRequestModes(db); return nil },
		func() (err error) { b.topics, err = openTopics(db, b.cfg, b.now, nil); return },
		func() (err error) { b.groups, err = openGroups(db, b.cfg, b.now); return },
		func() (err error) { b.offsets, err = openOffsets(db, b.now); return },
		func() (err error) { b.clients, err = openClients(db, b.groups, b.now); return },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestImportOfApachesFolders(t *testing.T) {
	for _, name := range []string{golden.Clean550, golden.Clean497} {
		t.Run(name, func(t *testing.T) {
			dir, _ := golden.Unpack(t, name)
			file, _, err := readApacheFile[apacheTopics](vfs.OS, dir+"/config", "topics.json")
			if err != nil || len(file.TopicConfigTable) == 0 {
				t.Fatal(err, file)
			}
			offsets, _, err := readApacheFile[apacheOffsets](vfs.OS, dir+"/config", "consumerOffset.json")
			if err != nil {
				t.Fatal(err)
			}
			db := testDB(t)
			b := openState(t, vfs.OS, dir, db)
			if im := b.Imported(); !im.Done || im.Topics != len(file.TopicConfigTable) || len(im.Notes) != 0 {
				t.Errorf("imported %+v", im)
			}
			for name, want := range file.TopicConfigTable {
				if got := b.topics.LookupString(name); got == nil || got.ReadQueues != want.ReadQueueNums || got.WriteQueues != want.WriteQueueNums || got.Perm != want.Perm {
					t.Errorf("%s = %+v, want %+v", name, got, want)
				}
			}
			if b.topics.Version() != file.DataVersion {
				t.Errorf("version = %+v, want %+v", b.topics.Version(), file.DataVersion)
			}
			if len(offsets.OffsetTable) == 0 {
				t.Error("the folder has no offsets")
			}
			for pair, want := range offsets.OffsetTable {
				topic, group, _ := strings.Cut(pair, "@")
				if got := b.offsets.OfTopic(group, topic); len(want) > 0 && !maps.Equal(got, want) {
					t.Errorf("%s = %v, want %v", pair, got, want)
				}
			}
			b.offsets.Commit("later", "topic", 0, 5)
			wantKind(t, "Flush", b.offsets.Flush(), noRefusal)
			again := openState(t, vfs.OS, dir, db)
			if _, kept := again.offsets.Query("later", "topic", 0); !kept || again.Imported().Done {
				t.Error("the files were taken over a second time")
			}
		})
	}
}

func TestExportIsImportedAgain(t *testing.T) {
	fsys := vfs.NewMem()
	b := openState(t, fsys, "data", testDB(t))
	wantKind(t, "Update", b.topics.Update(TopicConfig{Name: "orders", ReadQueues: 8, WriteQueues: 4, Perm: 4, Order: true, FilterType: "MULTI_TAG",
		SysFlag: 1, Attributes: map[string]string{"+message.type": "FIFO"}}), noRefusal)
	g := DefaultGroupConfig("g")
	g.RetryMaxTimes, g.Orderly, g.ConsumeEnable = 2, true, false
	g.RetryPolicy = RetryPolicy{Type: RetryExponential, InitialMs: 5, MaxMs: 70, Multiplier: 3, Next: []int64{1, 2}}
	wantKind(t, "Update", b.groups.Update(g), noRefusal)
	if _, err := b.groups.SetForbidden("g", "orders", false); err != nil {
		t.Fatal(err)
	}
	b.offsets.Commit("g", "orders", 3, 1<<40)
	b.offsets.Commit("g", "%RETRY%g", 0, 2)
	b.offsets.CommitPull("g", "orders", 3, 9)
	sql := must(ParseSubscription("orders", "a > 1 AND b = 'x<y'", ExpressionSQL, 9))
	wantKind(t, "Heartbeat", b.clients.Heartbeat(&fakeClient{}, consume("a", "g", sql, subscription("other", 1))), noRefusal)
	wantKind(t, "SetRequestMode", b.SetRequestMode(RequestMode{Topic: "orders", Group: "g", Pop: true, Shared: 2}), noRefusal)
	delays := map[int32]message.Offset{3: 44}
	for range 2 {
		if err := b.exportApache(fsys, "data", &handedOver{levels: delays}); err != nil {
			t.Fatal(err)
		}
	}

	back := openState(t, fsys, "data", testDB(t))
	if diff := cmp.Diff(b.topics.All(), back.topics.All()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(b.groups.All(), back.groups.All()); diff != "" {
		t.Error(diff)
	}
	for _, topic := range []string{"orders", "%RETRY%g"} {
		if diff := cmp.Diff(b.offsets.OfTopic("g", topic), back.offsets.OfTopic("g", topic)); diff != "" {
			t.Error(diff)
		}
	}
	if at, ok := back.offsets.QueryPull("g", "orders", 3); !ok || at != 9 {
		t.Errorf("the pull offset = %d, %v", at, ok)
	}
	if diff := cmp.Diff([]*Subscription{sql}, back.clients.Subscriptions("g")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(must(b.RequestModes()), must(back.RequestModes())); diff != "" {
		t.Error(diff)
	}
	if im := back.Imported(); im.Delays[3] != 44 || im.Filters != 1 || im.Offsets != 3 || im.Modes != 1 {
		t.Errorf("imported %+v", im)
	}
	if im := openState(t, fsys, "data", back.db).Imported(); im.Delays[3] != 44 {
		t.Error("the delay progress is forgotten by the next start")
	}
}

func TestImportOfBrokenFiles(t *testing.T) {
	const good = `{"dataVersion":{"counter":1},"offsetTable":{"t@g":{0:5}}}`
	const older = `{"offsetTable":{"t@g":{0:4}}}`
	for _, c := range []struct {
		name  string
		files map[string]string
		want  message.Offset // -1: none
		note  bool
		fails bool
	}{
		{"none", nil, -1, false, false},
		{"whole", map[string]string{"consumerOffset.json": good, "consumerOffset.json.bak": older}, 5, false, false},
		{"cut, with a copy", map[string]string{"consumerOffset.json": good[:40], "consumerOffset.json.bak": older}, 4, true, false},
		{"gone, with a copy", map[string]string{"consumerOffset.json.bak": older}, 4, true, false},
		{"empty, with a copy", map[string]string{"consumerOffset.json": "", "consumerOffset.json.bak": older}, 4, true, false},
		{"cut, no copy", map[string]string{"consumerOffset.json": good[:40]}, -1, false, true},
		{"both cut", map[string]string{"consumerOffset.json": good[:40], "consumerOffset.json.bak": good[:20]}, -1, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := vfs.NewMem()
			if err := fsys.MkdirAll("data/config"); err != nil {
				t.Fatal(err)
			}
			for name, text := range c.files {
				f, err := fsys.Create("data/config/" + name)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte(text), 0); err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
			db := testDB(t)
			im, err := importApache(fsys, "data", db, time.Now())
			if c.fails {
				if err == nil || !strings.Contains(err.Error(), "consumerOffset.json") {
					t.Fatalf("import = %v", err)
				}
				if _, err := importApache(fsys, "data", db, time.Now()); err == nil {
					t.Error("the second start goes on without the offsets")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			at, found := must(openOffsets(db, time.Now)).Query("g", "t", 0)
			if found != (c.want >= 0) || found && at != c.want {
				t.Errorf("offset = %d, %v, want %d", at, found, c.want)
			}
			if slices.ContainsFunc(im.Notes, func(s string) bool { return strings.Contains(s, ".bak") }) != c.note {
				t.Errorf("notes = %q", im.Notes)
			}
		})
	}
}
