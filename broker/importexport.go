package broker

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
)

// apacheConfigDir is where Apache's broker keeps its settings, in its store folder.
const apacheConfigDir = "config"

// ApacheImport says what was taken over from the config folder of Apache's broker.
type ApacheImport struct {
	Done    bool // something was there and was taken over now
	Topics  int
	Groups  int
	Offsets int
	Filters int
	// Delays is how far each delay level was delivered; empty if not told.
	Delays map[int32]message.Offset
	Notes  []string // what an operator should know
}

// importMark is stored once a folder was looked at, so that Apache's files,
// which stay where they are, are taken over only once.
type importMark struct {
	At     int64                    `json:"at"` // ms
	Files  []string                 `json:"files,omitempty"`
	Delays map[int32]message.Offset `json:"delays,omitempty"`
	// Sums are the CRCs of the files when they were taken over or exported. One
	// that differs was written by Apache's broker since.
	Sums map[string]uint32 `json:"sums,omitempty"`
}

// apacheFiles are the files that tell whether Apache's broker ran on a folder.
var apacheFiles = []string{"topics.json", "subscriptionGroup.json", "consumerOffset.json", "delayOffset.json"}

// apacheSums returns the CRCs of those that are there.
func apacheSums(fsys vfs.FS, dir string) (map[string]uint32, error) {
	sums := map[string]uint32{}
	for _, name := range apacheFiles {
		text, err := readFile(fsys, filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the settings of Apache's broker: %w", err)
		}
		sums[name] = crc32.ChecksumIEEE(text)
	}
	return sums, nil
}

// changed tells whether a file is there that was not taken over as it is now.
func (m *importMark) changed(sums map[string]uint32) bool {
	for name, sum := range sums {
		if old, known := m.Sums[name]; !known || old != sum {
			return true
		}
	}
	return false
}

const importKey = "apache"

// importApache takes over the settings and offsets that Apache's broker left
// in the data folder, the first time that Merlin opens it, and when it has run
// on the folder since: all of them or none.
// Call it before the tables are opened.
func importApache(fsys vfs.FS, dataDir string, db *kv.DB, now time.Time) (ApacheImport, error) {
	marks := kv.NewBucket(db, "import", kv.JSON[importMark]())
	mark, found, err := marks.Get([]byte(importKey))
	if err != nil {
		return ApacheImport{}, err
	}
	dir := filepath.Join(dataDir, apacheConfigDir)
	sums, err := apacheSums(fsys, dir)
	if err != nil {
		return ApacheImport{}, err
	}
	if found && !mark.changed(sums) {
		return ApacheImport{Delays: mark.Delays}, nil
	}
	im := importer{fs: fsys, dir: dir, db: db, now: now, again: found}
	if found {
		im.report.Notes = append(im.report.Notes, "Apache's broker has used the folder since; its topics, groups, offsets and delay progress are taken over again")
	}
	if err := im.all(); err != nil {
		return ApacheImport{}, err
	}
	mark = importMark{At: now.UnixMilli(), Files: im.files, Delays: im.report.Delays, Sums: sums}
	if err := marks.PutTo(&im.batch, []byte(importKey), mark); err != nil {
		return ApacheImport{}, err
	}
	im.report.Done = len(im.files) > 0
	return im.report, db.Write(&im.batch, kv.Synced)
}

// takeOver runs importApache and tells what it found.
func (b *Broker) takeOver(fsys vfs.FS, dataDir string) (err error) {
	if b.apache, err = importApache(fsys, dataDir, b.db, b.now()); err != nil {
		return err
	}
	for _, note := range b.apache.Notes {
		b.events.Warn(note)
	}
	return nil
}

// Imported returns what was taken over from Apache's broker when the folder was
// opened; of earlier times it has the delay progress alone.
func (b *Broker) Imported() ApacheImport { return b.apache }

type importer struct {
	fs     vfs.FS
	dir    string
	db     *kv.DB
	now    time.Time
	again  bool // what is stored goes first
	batch  kv.Batch
	files  []string
	report ApacheImport
}

func (im *importer) all() error {
	for _, step := range []func() error{im.topics, im.groups, im.offsets, im.delays, im.filters} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// note keeps which file was read; true if there was one.
func (im *importer) note(from string) bool {
	if from == "" {
		return false
	}
	im.files = append(im.files, from)
	if strings.HasSuffix(from, ".bak") {
		im.report.Notes = append(im.report.Notes, fmt.Sprintf("%s was missing or broken; its older copy %s was taken", strings.TrimSuffix(from, ".bak"), from))
	}
	return true
}

// usable tells whether a name can be taken over. Names that today's rules for
// new ones refuse are: they are in use.
func (im *importer) usable(file, name string) bool {
	if name != "" && !strings.ContainsRune(name, 0) {
		return true
	}
	im.report.Notes = append(im.report.Notes, fmt.Sprintf("%s: the name %q cannot be used; it was left out", file, name))
	return false
}

func (im *importer) version(key string, v DataVersion) error {
	return kv.NewBucket(im.db, "version", kv.JSON[DataVersion]()).PutTo(&im.batch, []byte(key), v)
}

// clearBucket removes what an earlier import or Merlin itself stored.
func clearBucket[V any](im *importer, b *kv.Bucket[V]) error {
	if !im.again {
		return nil
	}
	return b.Range(nil, nil, func(key []byte, _ V) bool {
		b.DeleteTo(&im.batch, key)
		return true
	})
}

func (im *importer) topics() error {
	file, from, err := readApacheFile[apacheTopics](im.fs, im.dir, "topics.json")
	if err != nil || !im.note(from) {
		return err
	}
	bucket := kv.NewBucket(im.db, "topic", kv.JSON[TopicConfig]())
	if err := clearBucket(im, bucket); err != nil {
		return err
	}
	for name, t := range file.TopicConfigTable {
		c := t.config()
		c.Name = cmp.Or(c.Name, name)
		if !im.usable("topics.json", c.Name) {
			continue
		}
		if err := bucket.PutTo(&im.batch, []byte(c.Name), c); err != nil {
			return err
		}
		im.report.Topics++
	}
	return im.version(topicsVersionKey, file.DataVersion)
}

func (im *importer) groups() error {
	file, from, err := readApacheFile[apacheGroups](im.fs, im.dir, "subscriptionGroup.json")
	if err != nil || !im.note(from) {
		return err
	}
	bucket := kv.NewBucket(im.db, "group", kv.JSON[storedGroup]())
	if err := clearBucket(im, bucket); err != nil {
		return err
	}
	for name, g := range file.SubscriptionGroupTable {
		c := g.config()
		c.Name = cmp.Or(c.Name, name)
		if !im.usable("subscriptionGroup.json", c.Name) {
			continue
		}
		if err := bucket.PutTo(&im.batch, []byte(c.Name), storedGroup{c, file.ForbiddenTable[c.Name]}); err != nil {
			return err
		}
		im.report.Groups++
	}
	return im.version(groupsVersionKey, file.DataVersion)
}

func (im *importer) offsets() error {
	file, from, err := readApacheFile[apacheOffsets](im.fs, im.dir, "consumerOffset.json")
	if err != nil || !im.note(from) {
		return err
	}
	for bucket, table := range map[string]map[string]map[int32]message.Offset{"offset": file.OffsetTable, "pulloffset": file.PullOffsetTable} {
		stored := kv.NewBucket(im.db, bucket, kv.Int64[message.Offset]())
		if err := clearBucket(im, stored); err != nil {
			return err
		}
		for name, queues := range table {
			topic, group, ok := strings.Cut(name, "@")
			if !ok || strings.ContainsRune(name, 0) { // the zero byte separates the parts of keys
				im.report.Notes = append(im.report.Notes, fmt.Sprintf("consumerOffset.json: %q is no TOPIC@GROUP; it was left out", name))
				continue
			}
			for queue, offset := range queues {
				if err := stored.PutTo(&im.batch, offsetKey(groupTopic{topic, group}, queue), offset); err != nil {
					return err
				}
				im.report.Offsets++
			}
		}
	}
	return im.version(offsetsVersionKey, file.DataVersion)
}

func (im *importer) delays() error {
	file, from, err := readApacheFile[apacheDelays](im.fs, im.dir, "delayOffset.json")
	if err == nil && im.note(from) {
		im.report.Delays = file.OffsetTable
		if im.again {
			err = schedule.ForgetProgress(im.db, &im.batch)
		}
	}
	return err
}

// filters takes over the SQL filters, so that pulls need not wait for the
// first heartbeat of each group.
func (im *importer) filters() error {
	file, from, err := readApacheFile[apacheFilters](im.fs, im.dir, "consumerFilter.json")
	if err != nil || !im.note(from) {
		return err
	}
	groups := map[string]*storedSubscriptions{}
	for topic, filters := range file.FilterDataByTopic {
		for group, f := range filters.GroupFilterData {
			if f.Expression == "" {
				continue
			}
			if groups[group] == nil {
				groups[group] = &storedSubscriptions{Type: ConsumePassively}
			}
			groups[group].Subscriptions = append(groups[group].Subscriptions, &Subscription{
				Topic: topic, Expression: f.Expression, Type: f.ExpressionType, Version: f.ClientVersion,
			})
			im.report.Filters++
		}
	}
	bucket := kv.NewBucket(im.db, "subscription", kv.JSON[storedSubscriptions]())
	for group, s := range groups {
		if err := bucket.PutTo(&im.batch, []byte(group), *s); err != nil {
			return err
		}
	}
	return nil
}

// ExportApache writes the settings and offsets into the config folder of the
// data folder, as files that Apache's broker reads. delays is how far each
// delay level was delivered; nil leaves that file as it is. A running broker of
// either kind must not have the folder.
func (b *Broker) ExportApache(fsys vfs.FS, dataDir string, delays map[int32]message.Offset) error {
	dir := filepath.Join(dataDir, apacheConfigDir)
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("export to %s: %w", dir, err)
	}
	files := map[string]any{
		"topics.json": b.exportTopics(), "subscriptionGroup.json": b.exportGroups(),
		"consumerOffset.json": b.exportOffsets(), "consumerFilter.json": b.exportFilters(),
	}
	if delays != nil {
		files["delayOffset.json"] = apacheDelays{DataVersion: DataVersion{Timestamp: b.now().UnixMilli()}, OffsetTable: delays}
	}
	for name, v := range files {
		if err := writeApacheFile(fsys, dir, name, v); err != nil {
			return fmt.Errorf("export %s: %w", filepath.Join(dir, name), err)
		}
	}
	return b.markExported(fsys, dir)
}

// markExported notes that the files are ours, so that the next start takes them
// over only if Apache's broker has written to them.
func (b *Broker) markExported(fsys vfs.FS, dir string) error {
	marks := kv.NewBucket(b.db, "import", kv.JSON[importMark]())
	mark, _, err := marks.Get([]byte(importKey))
	if err != nil {
		return err
	}
	if mark.Sums, err = apacheSums(fsys, dir); err != nil {
		return err
	}
	return marks.Put([]byte(importKey), mark, kv.Synced)
}

func (b *Broker) exportTopics() apacheTopics {
	file := apacheTopics{DataVersion: b.topics.Version(), TopicConfigTable: map[string]apacheTopic{}}
	for _, t := range b.topics.All() {
		file.TopicConfigTable[t.Name] = newApacheTopic(t.TopicConfig)
	}
	return file
}

func (b *Broker) exportGroups() apacheGroups {
	file := apacheGroups{
		DataVersion: b.groups.Version(), ForbiddenTable: map[string]map[string]int32{},
		SubscriptionGroupTable: map[string]apacheGroup{},
	}
	for _, g := range b.groups.All() {
		file.SubscriptionGroupTable[g.Name] = newApacheGroup(g.GroupConfig)
		if len(g.Forbidden) > 0 {
			file.ForbiddenTable[g.Name] = g.Forbidden
		}
	}
	return file
}

func (b *Broker) exportOffsets() apacheOffsets {
	file := apacheOffsets{
		DataVersion: b.offsets.Version(),
		OffsetTable: map[string]map[int32]message.Offset{}, PullOffsetTable: map[string]map[int32]message.Offset{},
	}
	b.offsets.Each(func(group, topic string, queues map[int32]message.Offset) {
		file.OffsetTable[topic+"@"+group] = queues
	})
	b.offsets.EachPull(func(group, topic string, queues map[int32]message.Offset) {
		file.PullOffsetTable[topic+"@"+group] = queues
	})
	return file
}

func (b *Broker) exportFilters() apacheFilters {
	file := apacheFilters{FilterDataByTopic: map[string]apacheTopicFilters{}}
	b.clients.eachSubscription(func(group string, s *Subscription) {
		if s.IsTag() {
			return
		}
		topic, ok := file.FilterDataByTopic[s.Topic]
		if !ok {
			topic = apacheTopicFilters{Topic: s.Topic, GroupFilterData: map[string]apacheFilter{}}
			file.FilterDataByTopic[s.Topic] = topic
		}
		topic.GroupFilterData[group] = apacheFilter{
			ConsumerGroup: group, Topic: s.Topic, Expression: s.Expression, ExpressionType: s.Type,
			BornTime: b.now().UnixMilli(), ClientVersion: s.Version,
		}
	})
	return file
}
