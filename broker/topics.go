package broker

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
)

// Permission bits of topics and brokers.
const (
	PermInherit   = 1 // topics may be created after this one
	PermWrite     = 2
	PermRead      = 4
	PermPriority  = 8
	permReadWrite = PermRead | PermWrite
)

// System flags of topics.
const (
	TopicFlagUnit    = 1 // created by a producer in unit mode
	TopicFlagUnitSub = 2 // retry topic of a group in unit mode
)

// MaxQueues is the most queues a topic may have.
const MaxQueues = 65_536

// TopicConfig is what is set of a topic.
type TopicConfig struct {
	Name        string            `json:"name"`
	ReadQueues  int32             `json:"readQueues"`
	WriteQueues int32             `json:"writeQueues"`
	Perm        int32             `json:"perm"`
	Order       bool              `json:"order,omitempty"`
	SysFlag     int32             `json:"sysFlag,omitempty"`
	FilterType  string            `json:"filterType,omitempty"` // SINGLE_TAG or MULTI_TAG
	Attributes  map[string]string `json:"attributes,omitempty"`
}

// Topic is a topic as it is set now. It never changes: an update puts another
// Topic in its place, so look it up for each request.
type Topic struct {
	TopicConfig
	NoSend bool // clients may not send to it
}

func newTopic(c TopicConfig) *Topic {
	if c.FilterType == "" {
		c.FilterType = "SINGLE_TAG"
	}
	return &Topic{TopicConfig: c, NoSend: forbidsSend(c.Name)}
}

// forbidsSend tells whether clients may not send to the topic. Apache's broker
// lets them write into the timer's topic, past all checks of the instant.
func forbidsSend(name string) bool {
	return message.ForbidsSend(name) || name == message.TopicTimer || name == schedule.TopicRecurring
}

// DataVersion counts the changes of a table, for name servers and tools.
type DataVersion struct {
	StateVersion int64 `json:"stateVersion"`
	Timestamp    int64 `json:"timestamp"` // ms of the last change
	Counter      int64 `json:"counter"`
}

func (v DataVersion) next(now time.Time) DataVersion {
	return DataVersion{StateVersion: v.StateVersion, Timestamp: now.UnixMilli(), Counter: v.Counter + 1}
}

// TopicChange is what changed, told once it is stored.
type TopicChange struct {
	Changed []*Topic // created or updated
	Deleted []string
}

// Topics is the table of topics: found without locks, changed one at a time,
// each change stored before it is seen. Safe for concurrent use.
type Topics struct {
	cfg      *Settings
	now      func() time.Time
	onChange func(TopicChange)
	db       *kv.DB
	stored   *kv.Bucket[TopicConfig]
	versions *kv.Bucket[DataVersion]
	table    *nameTable[Topic]

	mu      sync.Mutex // guards changes of the table, and version
	version DataVersion
}

const topicsVersionKey = "topics"

// openTopics loads the stored topics and adds those that a broker of these
// settings has from the start. onChange is called after every later change, on
// the goroutine that made it, without locks.
func openTopics(db *kv.DB, cfg *Settings, now func() time.Time, onChange func(TopicChange)) (*Topics, error) {
	t := &Topics{
		cfg: cfg, now: now, onChange: onChange, db: db, table: newNameTable[Topic](),
		stored:   kv.NewBucket(db, "topic", kv.JSON[TopicConfig]()),
		versions: kv.NewBucket(db, "version", kv.JSON[DataVersion]()),
	}
	var found bool
	var err error
	if t.version, found, err = t.versions.Get([]byte(topicsVersionKey)); err != nil {
		return nil, err
	}
	if !found {
		t.version = DataVersion{Timestamp: now().UnixMilli()}
	}
	for _, c := range systemTopics(cfg) {
		t.table.set(c.Name, newTopic(c))
	}
	err = t.stored.Range(nil, nil, func(_ []byte, c TopicConfig) bool {
		t.table.set(c.Name, newTopic(c))
		return true
	})
	return t, err
}

// systemTopics lists the topics that Apache's broker has from its start, and
// the trace topic, so that a client that traces just works.
func systemTopics(cfg *Settings) []TopicConfig {
	list := []TopicConfig{
		{Name: message.TopicSelfTest, ReadQueues: 1},
		{Name: message.TopicBenchmark, ReadQueues: 1024},
		{Name: cfg.Cluster, ReadQueues: 16, Perm: PermInherit | permIf(cfg.ClusterTopic)},
		{Name: cfg.Name, ReadQueues: 1, Perm: PermInherit | permIf(cfg.BrokerTopic)},
		{Name: message.TopicOffsetMoved, ReadQueues: 1},
		{Name: message.TopicSchedule, ReadQueues: int32(max(18, len(cfg.DelayLevels)))},
		{Name: message.TopicTimer, ReadQueues: 1},
		{Name: message.TopicHalf, ReadQueues: 1},
		{Name: message.TopicOp, ReadQueues: 1},
		{Name: message.TopicRocksHalf, ReadQueues: 1},
		{Name: message.TopicRocksOp, ReadQueues: 1},
		{Name: message.TopicReviveLog + cfg.Cluster, ReadQueues: 8},
		{Name: message.TopicSyncMember + cfg.Name, ReadQueues: 1, Perm: PermInherit},
		{Name: cfg.Cluster + message.ReplyTopicSuffix, ReadQueues: 1},
	}
	if cfg.AutoCreateTopic.Load() {
		list = append(list, TopicConfig{Name: message.TopicAutoCreate, ReadQueues: cfg.DefaultTopicQueues, Perm: permReadWrite | PermInherit})
	}
	if cfg.TraceTopic != "" {
		list = append(list, TopicConfig{Name: cfg.TraceTopic, ReadQueues: 1})
	}
	for i := range list {
		list[i].WriteQueues = list[i].ReadQueues
		if list[i].Perm == 0 {
			list[i].Perm = permReadWrite
		}
	}
	return list
}

func permIf(open bool) int32 {
	if open {
		return permReadWrite
	}
	return 0
}

// IsSystem tells whether the topic is one the broker made for itself.
func (t *Topics) IsSystem(name string) bool {
	return message.IsSystemTopic(name) || name == t.cfg.Cluster || name == t.cfg.Name || name == t.cfg.Cluster+message.ReplyTopicSuffix ||
		name != "" && name == t.cfg.TraceTopic
}

// System returns the names of the broker's own topics, sorted.
func (t *Topics) System() []string {
	var names []string
	t.table.each(func(name string, _ *Topic) bool {
		if t.IsSystem(name) {
			names = append(names, name)
		}
		return true
	})
	slices.Sort(names)
	return names
}

// Lookup returns the topic of that name, or nil. It does not allocate.
func (t *Topics) Lookup(name []byte) *Topic { return t.table.getBytes(name) }

// LookupString is Lookup by a string.
func (t *Topics) LookupString(name string) *Topic { return t.table.get(name) }

// Len returns how many topics there are.
func (t *Topics) Len() int { return int(t.table.len.Load()) }

// All returns the topics sorted by name.
func (t *Topics) All() []*Topic {
	all := make([]*Topic, 0, t.Len())
	t.table.each(func(_ string, topic *Topic) bool {
		all = append(all, topic)
		return true
	})
	slices.SortFunc(all, func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Version returns the data version.
func (t *Topics) Version() DataVersion {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version
}

// Update creates or changes topics as an administrator asks: all of them, or,
// when one is refused, none. Attributes are changes: "+key=value" pairs have
// the key "+key", removals the key "-key". Refusals are *Error.
func (t *Topics) Update(configs ...TopicConfig) error {
	for i := range configs {
		if err := t.check(&configs[i]); err != nil {
			return err
		}
	}
	return t.change(func(change *TopicChange) error {
		for _, c := range configs {
			old := t.table.get(c.Name)
			var current map[string]string
			if old != nil {
				current = old.Attributes
			}
			var err error
			if c.Attributes, err = alterAttributes(topicAttributes, current, c.Attributes, old == nil); err != nil {
				return err
			}
			change.Changed = append(change.Changed, newTopic(c))
		}
		return nil
	})
}

// check refuses what no administrator may set.
func (t *Topics) check(c *TopicConfig) error {
	if err := message.CheckTopicName(c.Name); err != nil {
		return fail(KindInvalidParameter, nil, "%s", err)
	}
	if t.IsSystem(c.Name) {
		return refuse(KindInvalidParameter, "The topic[%s] is conflict with system topic.", c.Name)
	}
	for _, n := range []int32{c.ReadQueues, c.WriteQueues} {
		if n < 0 || n > MaxQueues {
			return refuse(KindInvalidParameter, "the topic %s cannot have %d queues; 0 to %d are allowed", c.Name, n, MaxQueues)
		}
	}
	if c.Perm < 0 || c.Perm > permReadWrite|PermInherit|PermPriority {
		return refuse(KindInvalidParameter, "the permission %d of the topic %s is no sum of 1 (inherit), 2 (write), 4 (read) and 8 (priority)", c.Perm, c.Name)
	}
	switch c.FilterType {
	case "", "SINGLE_TAG", "MULTI_TAG":
	default:
		return refuse(KindInvalidParameter, "the filter type %q of the topic %s is neither SINGLE_TAG nor MULTI_TAG", c.FilterType, c.Name)
	}
	return nil
}

// CreateForSend creates the topic that a send names, by Apache's rules: after
// a template that has the inherit bit, or as a retry topic. It returns the
// topic that is there if another send was first.
func (t *Topics) CreateForSend(name, template string, wanted int32, unitMode bool) (*Topic, error) {
	if message.IsRetryTopic(name) {
		return t.CreateRetry(name, 1, unitMode)
	}
	return t.create(name, func() (TopicConfig, error) {
		model := t.table.get(template)
		switch {
		case model == nil:
			return TopicConfig{}, refuse(KindTopicNotExist, "topic[%s] not exist, apply first please! The topic %q that it should be modelled on does not exist either; create it with: merlin topic create %s", name, template, name)
		case model.Perm&PermInherit == 0, template == message.TopicAutoCreate && !t.cfg.AutoCreateTopic.Load():
			return TopicConfig{}, refuse(KindTopicNotExist, "topic[%s] not exist, apply first please! Automatic creation is off; create it with: merlin topic create %s", name, name)
		}
		queues := max(1, min(wanted, model.WriteQueues))
		c := TopicConfig{Name: name, ReadQueues: queues, WriteQueues: queues, Perm: model.Perm &^ PermInherit, FilterType: model.FilterType}
		if unitMode {
			c.SysFlag = TopicFlagUnit
		}
		return c, nil
	})
}

// CreateRetry creates a retry topic, which needs no permission, or gives one
// that is there the queues that it lacks. It takes none away.
func (t *Topics) CreateRetry(name string, queues int32, unitMode bool) (*Topic, error) {
	topic, err := t.create(name, func() (TopicConfig, error) {
		c := TopicConfig{Name: name, ReadQueues: max(1, queues), WriteQueues: max(1, queues), Perm: permReadWrite}
		if unitMode {
			c.SysFlag = TopicFlagUnitSub
		}
		return c, nil
	})
	if err != nil || topic.ReadQueues >= queues {
		return topic, err
	}
	return t.widen(topic, queues)
}

// widen gives a topic more queues; one that was deleted meanwhile stays away.
func (t *Topics) widen(topic *Topic, queues int32) (*Topic, error) {
	err := t.change(func(change *TopicChange) error {
		now := t.table.get(topic.Name)
		if now == nil || now.ReadQueues >= queues {
			topic = cmp.Or(now, topic)
			return nil
		}
		c := now.TopicConfig
		c.ReadQueues, c.WriteQueues = queues, max(c.WriteQueues, queues)
		topic = newTopic(c)
		change.Changed = append(change.Changed, topic)
		return nil
	})
	return topic, err
}

// CreateOwn creates a topic that the broker itself needs, if it is not there:
// dead letters, unanswered transactions.
func (t *Topics) CreateOwn(name string, queues int32) (*Topic, error) {
	return t.create(name, func() (TopicConfig, error) {
		return TopicConfig{Name: name, ReadQueues: queues, WriteQueues: queues, Perm: permReadWrite}, nil
	})
}

func (t *Topics) create(name string, config func() (TopicConfig, error)) (*Topic, error) {
	if topic := t.table.get(name); topic != nil {
		return topic, nil
	}
	var topic *Topic
	err := t.change(func(change *TopicChange) error {
		if topic = t.table.get(name); topic != nil {
			return nil
		}
		if err := message.CheckTopicName(name); err != nil {
			return fail(KindInvalidParameter, nil, "%s", err)
		}
		c, err := config()
		if err != nil {
			return err
		}
		topic = newTopic(c)
		change.Changed = append(change.Changed, topic)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return topic, nil
}

// Delete removes a topic; false if there was none. Topics of the broker's own
// are refused.
func (t *Topics) Delete(name string) (bool, error) {
	if t.IsSystem(name) {
		return false, refuse(KindInvalidParameter, "The topic[%s] is conflict with system topic.", name)
	}
	found := false
	err := t.change(func(change *TopicChange) error {
		if found = t.table.get(name) != nil; found {
			change.Deleted = append(change.Deleted, name)
		}
		return nil
	})
	return found, err
}

// SetOrdered marks the topics that are ordered across brokers, as name servers
// tell it, and unmarks all others.
func (t *Topics) SetOrdered(names []string) error {
	ordered := make(map[string]bool, len(names))
	for _, name := range names {
		ordered[name] = true
	}
	return t.change(func(change *TopicChange) error {
		t.table.each(func(name string, topic *Topic) bool {
			if topic.Order != ordered[name] {
				c := topic.TopicConfig
				c.Order = ordered[name]
				change.Changed = append(change.Changed, newTopic(c))
			}
			return true
		})
		return nil
	})
}

// change stores what fill asks for, then makes it visible and tells it.
func (t *Topics) change(fill func(*TopicChange) error) error {
	var change TopicChange
	if err := t.apply(&change, fill); err != nil {
		return err
	}
	if t.onChange != nil && len(change.Changed)+len(change.Deleted) > 0 {
		t.onChange(change)
	}
	return nil
}

// apply holds the lock, which the telling of the change must not.
func (t *Topics) apply(change *TopicChange, fill func(*TopicChange) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := fill(change); err != nil {
		return err
	}
	if len(change.Changed)+len(change.Deleted) == 0 {
		return nil
	}
	version := t.version.next(t.now())
	var w kv.Batch
	if err := t.versions.PutTo(&w, []byte(topicsVersionKey), version); err != nil {
		return fail(KindSystem, err, "storing the topics")
	}
	for _, topic := range change.Changed {
		if err := t.stored.PutTo(&w, []byte(topic.Name), topic.TopicConfig); err != nil {
			return fail(KindSystem, err, "storing the topic %s", topic.Name)
		}
	}
	for _, name := range change.Deleted {
		t.stored.DeleteTo(&w, []byte(name))
	}
	if err := t.db.Write(&w, kv.Synced); err != nil {
		return fail(KindSystem, err, "storing the topics")
	}
	t.version = version
	for _, topic := range change.Changed {
		t.table.set(topic.Name, topic)
	}
	for _, name := range change.Deleted {
		t.table.set(name, nil)
	}
	return nil
}
