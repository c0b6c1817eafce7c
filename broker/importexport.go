package broker

import (
	"cmp"
	"fmt"
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
	Modes   int // groups that pop a topic
	// Delays is how far each delay level was delivered; empty if not told.
	Delays map[int32]message.Offset
	Notes  []string // what an operator should know
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
	again  bool // what is stored of a file goes first
	batch  kv.Batch
	files  []string
	report ApacheImport
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

// delays takes over how far delayed messages are delivered. The rows of timed
// messages are made anew: the timer of Apache's broker may have delivered them.
func (im *importer) delays() error {
	file, from, err := readApacheFile[apacheDelays](im.fs, im.dir, "delayOffset.json")
	if err != nil {
		return err
	}
	if im.note(from) {
		im.report.Delays = file.OffsetTable
	}
	if im.again {
		return schedule.ForgetProgress(im.db, &im.batch)
	}
	return nil
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

// modes takes over which groups pop which topics.
func (im *importer) modes() error {
	file, from, err := readApacheFile[apacheModes](im.fs, im.dir, "messageRequestMode.json")
	if err != nil || !im.note(from) {
		return err
	}
	bucket := openRequestModes(im.db).stored
	if err := clearBucket(im, bucket); err != nil {
		return err
	}
	for topic, groups := range file.Map {
		for group, m := range groups {
			if !im.usable("messageRequestMode.json", topic) || !im.usable("messageRequestMode.json", group) {
				continue
			}
			mode := RequestMode{Topic: topic, Group: group, Pop: m.Mode == apachePop, Shared: max(m.Shared, 0)}
			if err := bucket.PutTo(&im.batch, requestModeKey(topic, group), mode); err != nil {
				return err
			}
			if mode.Pop {
				im.report.Modes++
			}
		}
	}
	return nil
}
