package broker

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// attributeRule says which values an attribute of a topic or group may have.
type attributeRule struct {
	fixed  bool     // cannot be changed once it is set
	words  []string // the values allowed; nil: a number or any text
	number bool
	min    int64
	max    int64
	text   bool // any text

	position bool // what parseInitial reads
}

// topicAttributes are those that Apache's broker knows.
var topicAttributes = map[string]attributeRule{
	"queue.type":            {fixed: true, words: []string{"BatchCQ", "SimpleCQ"}},
	"cleanup.policy":        {fixed: true, words: []string{"COMPACTION", "DELETE"}},
	"message.type":          {words: []string{"UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "PRIORITY", "LITE", "MIXED"}},
	"reserve.time":          {number: true, min: -1, max: 1<<63 - 1},
	"lite.topic.expiration": {number: true, min: -1, max: 1<<63 - 1},
}

// groupAttributes are those that Apache's broker knows, and ours.
var groupAttributes = map[string]attributeRule{
	"priority.factor":                   {number: true, min: 0, max: 100},
	"lite.bind.topic":                   {text: true},
	"lite.sub.wildcard":                 {words: []string{"true", "false"}},
	"lite.sub.model":                    {words: []string{"Shared", "Exclusive"}},
	"lite.sub.reset.offset.exclusive":   {words: []string{"true", "false"}},
	"lite.sub.reset.offset.unsubscribe": {words: []string{"true", "false"}},
	"lite.sub.client.quota":             {number: true, min: -1, max: 1<<63 - 1},
	"lite.sub.client.max.event.cnt":     {number: true, min: 1, max: 1<<63 - 1},
	AttributeGuard:                      {words: []string{GuardWarn, GuardReject}},
	AttributeInitial:                    {position: true},
}

// alterAttributes applies changes to the current attributes: the key "+k" sets
// k, the key "-k" removes it. It returns a new map; refusals are *Error.
func alterAttributes(rules map[string]attributeRule, current, changes map[string]string, create bool) (map[string]string, error) {
	if len(changes) == 0 {
		return current, nil
	}
	next := maps.Clone(current)
	if next == nil {
		next = map[string]string{}
	}
	seen := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		value := changes[key]
		add, name := strings.HasPrefix(key, "+"), strings.TrimLeft(key, "+-")
		if !add && !strings.HasPrefix(key, "-") || name == "" || len(name) != len(key)-1 {
			return nil, refuse(KindSystem, "wrong format key: %q; write +key=value to set an attribute and -key to remove it", key)
		}
		if seen[name] {
			return nil, refuse(KindSystem, "the attribute %s is both set and removed", name)
		}
		seen[name] = true
		rule, known := rules[name]
		if !known {
			return nil, refuse(KindSystem, "unsupported key: %q; the attributes are %s", name, strings.Join(slices.Sorted(maps.Keys(rules)), ", "))
		}
		old, has := current[name]
		switch {
		case !add && create:
			return nil, refuse(KindSystem, "only add attribute is supported while creating: -%s", name)
		case !add && !has:
			return nil, refuse(KindSystem, "attempt to delete a nonexistent key: %s", name)
		case rule.fixed && !create && (!add || old != value):
			return nil, refuse(KindSystem, "attempt to update an unchangeable attribute: %s can only be set when the topic is created", name)
		case !add:
			delete(next, name)
			continue
		}
		if err := rule.check(name, value); err != nil {
			return nil, err
		}
		next[name] = value
	}
	return next, nil
}

func (r *attributeRule) check(name, value string) error {
	switch {
	case r.position:
		if _, err := parseInitial(value); err != nil {
			return err
		}
	case r.words != nil:
		if !slices.Contains(r.words, value) {
			return refuse(KindSystem, "value is not in set: the attribute %s is %q, allowed are %s", name, value, strings.Join(r.words, ", "))
		}
	case r.number:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < r.min || n > r.max {
			return refuse(KindSystem, "value is not in range(%d, %d): the attribute %s is %q", r.min, r.max, name, value)
		}
	}
	return nil
}
