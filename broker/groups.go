package broker

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// RetryPolicy says how long a message waits before its next attempt.
type RetryPolicy struct {
	Type       string  `json:"type"`                 // CUSTOMIZED or EXPONENTIAL
	Next       []int64 `json:"next,omitempty"`       // ms, for CUSTOMIZED; empty: the delay levels
	InitialMs  int64   `json:"initialMs,omitempty"`  // for EXPONENTIAL
	MaxMs      int64   `json:"maxMs,omitempty"`      // for EXPONENTIAL
	Multiplier int64   `json:"multiplier,omitempty"` // for EXPONENTIAL
}

// The types of retry policies.
const (
	RetryCustomized  = "CUSTOMIZED"
	RetryExponential = "EXPONENTIAL"
)

// GroupConfig is what is set of a consumer group.
type GroupConfig struct {
	Name                  string            `json:"name"`
	ConsumeEnable         bool              `json:"consumeEnable"`
	ConsumeFromMinEnable  bool              `json:"consumeFromMinEnable"`
	BroadcastEnable       bool              `json:"broadcastEnable"`
	Orderly               bool              `json:"orderly,omitempty"`
	RetryQueues           int32             `json:"retryQueues"`
	RetryMaxTimes         int32             `json:"retryMaxTimes"`
	RetryPolicy           RetryPolicy       `json:"retryPolicy"`
	BrokerID              int64             `json:"brokerId,omitempty"`
	SlowReadBrokerID      int64             `json:"slowReadBrokerId"` // suggested to consumers that are far behind
	NotifyMembers         bool              `json:"notifyMembers"`    // of changes among them
	SysFlag               int32             `json:"sysFlag,omitempty"`
	ConsumeTimeoutMinutes int32             `json:"consumeTimeoutMinutes"`
	Attributes            map[string]string `json:"attributes,omitempty"`
}

// DefaultGroupConfig returns the settings of a group that nobody set.
func DefaultGroupConfig(name string) GroupConfig {
	return GroupConfig{
		Name: name, ConsumeEnable: true, ConsumeFromMinEnable: true, BroadcastEnable: true,
		RetryQueues: 1, RetryMaxTimes: 16, RetryPolicy: RetryPolicy{Type: RetryCustomized},
		SlowReadBrokerID: 1, NotifyMembers: true, ConsumeTimeoutMinutes: 15,
	}
}

// Group is a consumer group as it is set now. It never changes: an update puts
// another Group in its place.
type Group struct {
	GroupConfig
	Forbidden map[string]int32 // topic to bits that say what the group may not do with it
}

// ForbidReadBit is the bit of Group.Forbidden that forbids pulling.
const ForbidReadBit = 1 << 2

// ForbidsRead tells whether the group may not pull from the topic.
func (g *Group) ForbidsRead(topic string) bool { return g.Forbidden[topic]&ForbidReadBit != 0 }

// storedGroup is how a group is kept.
type storedGroup struct {
	GroupConfig
	Forbidden map[string]int32 `json:"forbidden,omitempty"`
}

// Groups is the table of consumer groups: found without locks, changed one at
// a time, each change stored before it is seen. Safe for concurrent use.
type Groups struct {
	cfg      *Settings
	now      func() time.Time
	db       *kv.DB
	stored   *kv.Bucket[storedGroup]
	versions *kv.Bucket[DataVersion]
	table    *nameTable[Group]

	mu      sync.Mutex // guards changes of the table, and version
	version DataVersion
}

const groupsVersionKey = "groups"

// systemGroups are those that Apache's broker has from its start.
var systemGroups = []string{
	"TOOLS_CONSUMER", "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "CID_ONS-HTTP-PROXY", "CID_ONSAPI_PULL",
	"CID_ONSAPI_PERMISSION", "CID_ONSAPI_OWNER", message.GroupTransaction,
}

// openGroups loads the stored groups and adds those that every broker has.
func openGroups(db *kv.DB, cfg *Settings, now func() time.Time) (*Groups, error) {
	g := &Groups{
		cfg: cfg, now: now, db: db, table: newNameTable[Group](),
		stored:   kv.NewBucket(db, "group", kv.JSON[storedGroup]()),
		versions: kv.NewBucket(db, "version", kv.JSON[DataVersion]()),
	}
	var found bool
	var err error
	if g.version, found, err = g.versions.Get([]byte(groupsVersionKey)); err != nil {
		return nil, err
	}
	if !found {
		g.version = DataVersion{Timestamp: now().UnixMilli()}
	}
	for _, name := range systemGroups {
		g.table.set(name, &Group{GroupConfig: DefaultGroupConfig(name)})
	}
	err = g.stored.Range(nil, nil, func(_ []byte, s storedGroup) bool {
		g.table.set(s.Name, &Group{GroupConfig: s.GroupConfig, Forbidden: s.Forbidden})
		return true
	})
	return g, err
}

// IsSystem tells whether the group is one of the broker's own.
func (g *Groups) IsSystem(name string) bool {
	return slices.Contains(systemGroups, name) || strings.HasPrefix(name, "CID_RMQ_SYS_")
}

// Lookup returns the group of that name, or nil.
func (g *Groups) Lookup(name string) *Group { return g.table.get(name) }

// LookupBytes is Lookup without a string.
func (g *Groups) LookupBytes(name []byte) *Group { return g.table.getBytes(name) }

// Len returns how many groups there are.
func (g *Groups) Len() int { return int(g.table.len.Load()) }

// All returns the groups sorted by name.
func (g *Groups) All() []*Group {
	all := make([]*Group, 0, g.Len())
	g.table.each(func(_ string, group *Group) bool {
		all = append(all, group)
		return true
	})
	slices.SortFunc(all, func(a, b *Group) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Version returns the data version.
func (g *Groups) Version() DataVersion {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.version
}

// AutoCreate returns the group, created with default settings if it is not
// there and that is allowed. Refusals are *Error.
func (g *Groups) AutoCreate(name string) (*Group, error) {
	if group := g.table.get(name); group != nil {
		return group, nil
	}
	if err := message.CheckGroupName(name); err != nil {
		return nil, fail(KindGroupNotExist, nil, "%s", err)
	}
	if !g.cfg.AutoCreateGroup.Load() && !g.IsSystem(name) {
		return nil, refuse(KindGroupNotExist, "subscription group [%s] does not exist, and automatic creation is off; create it with: merlin group create %s", name, name)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if group := g.table.get(name); group != nil {
		return group, nil
	}
	group := &Group{GroupConfig: DefaultGroupConfig(name)}
	return group, g.storeLocked([]*Group{group}, nil)
}

// Update creates or changes groups as an administrator asks: all of them, or,
// when one is refused, none. Attributes are changes as in Topics.Update.
func (g *Groups) Update(configs ...GroupConfig) error {
	for i := range configs {
		if err := checkGroup(&configs[i]); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var changed []*Group
	for _, c := range configs {
		next := &Group{GroupConfig: c}
		var current map[string]string
		old := g.table.get(c.Name)
		if old != nil {
			current, next.Forbidden = old.Attributes, old.Forbidden
		}
		var err error
		if next.Attributes, err = alterAttributes(groupAttributes, current, c.Attributes, old == nil); err != nil {
			return err
		}
		changed = append(changed, next)
	}
	return g.storeLocked(changed, nil)
}

func checkGroup(c *GroupConfig) error {
	if err := message.CheckGroupName(c.Name); err != nil {
		return fail(KindInvalidParameter, nil, "%s", err)
	}
	if c.RetryQueues < 0 || c.RetryQueues > MaxQueues {
		return refuse(KindInvalidParameter, "the group %s cannot have %d retry queues; 0 to %d are allowed", c.Name, c.RetryQueues, MaxQueues)
	}
	return checkPolicy(c.Name, &c.RetryPolicy)
}

// SetForbidden says whether the group may pull from the topic, and returns
// whether it may now.
func (g *Groups) SetForbidden(name, topic string, readable bool) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.table.get(name)
	if old == nil {
		return false, refuse(KindGroupNotExist, "subscription group [%s] does not exist", name)
	}
	next := *old
	next.Forbidden = maps.Clone(old.Forbidden)
	if next.Forbidden == nil {
		next.Forbidden = map[string]int32{}
	}
	if readable {
		next.Forbidden[topic] &^= ForbidReadBit
	} else {
		next.Forbidden[topic] |= ForbidReadBit
	}
	if next.Forbidden[topic] == 0 {
		delete(next.Forbidden, topic)
	}
	return readable, g.storeLocked([]*Group{&next}, nil)
}

// Delete removes a group; false if there was none.
func (g *Groups) Delete(name string) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.table.get(name) == nil {
		return false, nil
	}
	return true, g.storeLocked(nil, []string{name})
}

// storeLocked stores a change and then makes it visible.
func (g *Groups) storeLocked(changed []*Group, deleted []string) error {
	version := g.version.next(g.now())
	var w kv.Batch
	if err := g.versions.PutTo(&w, []byte(groupsVersionKey), version); err != nil {
		return fail(KindSystem, err, "storing the groups")
	}
	for _, group := range changed {
		if err := g.stored.PutTo(&w, []byte(group.Name), storedGroup{group.GroupConfig, group.Forbidden}); err != nil {
			return fail(KindSystem, err, "storing the group %s", group.Name)
		}
	}
	for _, name := range deleted {
		g.stored.DeleteTo(&w, []byte(name))
	}
	if err := g.db.Write(&w, kv.Synced); err != nil {
		return fail(KindSystem, err, "storing the groups")
	}
	g.version = version
	for _, group := range changed {
		g.table.set(group.Name, group)
	}
	for _, name := range deleted {
		g.table.set(name, nil)
	}
	return nil
}
