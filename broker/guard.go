package broker

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/merlinmq/merlin/message"
)

// Members of one group that subscribe to different things lose messages: the
// queues of a topic are divided among all of them, also among those that do not
// want it, and the broker filters by what it heard last. So each member's
// subscriptions are compared with those of the others.

// AttributeGuard is the group attribute that says what becomes of a member
// whose subscriptions differ: GuardWarn or GuardReject.
const AttributeGuard = "merlin.subscriptionGuard"

// The values of AttributeGuard.
const (
	GuardWarn   = "warn" // the default: an event, a metric, a line in 'merlin group show'
	GuardReject = "reject"
)

// signature is the same for subscriptions that want the same, whatever their
// versions and the order in which they were written.
func signature(subs []*Subscription) string {
	var parts []string
	for _, s := range subs {
		if message.IsRetryTopic(s.Topic) {
			continue
		}
		want := s.Expression
		switch {
		case s.All():
			want = SubscribeAll
		case s.IsTag() && len(s.Tags) > 0:
			tags := slices.Clone(s.Tags)
			slices.Sort(tags)
			want = strings.Join(slices.Compact(tags), " || ")
		}
		if !s.IsTag() {
			want = s.Type + " " + want
		}
		parts = append(parts, s.Topic+": "+want)
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// oddLocked returns a sentence if a member with that signature would stand
// against the group's others: against more of them, or as many that were there
// before it.
func (g *consumerGroup) oddLocked(client Client, id, sign string) string {
	same, counts := 1, map[string]int{}
	example := map[string]*ClientInfo{} // of each signature, who joined first
	for conn, m := range g.members {
		switch {
		case conn == client || m.ID == id:
		case m.signature == sign:
			same++
		default:
			counts[m.signature]++
		}
		if e := example[m.signature]; conn != client && (e == nil || m.joined.Before(e.joined)) {
			example[m.signature] = m
		}
	}
	own := g.members[client]
	for _, other := range slices.Sorted(maps.Keys(counts)) {
		n, first := counts[other], example[other]
		later := own == nil || own.signature != sign || first.joined.Before(own.joined)
		if mine := example[sign]; mine != nil && mine.joined.Before(first.joined) {
			later = false
		}
		if n > same || n == same && later {
			return fmt.Sprintf("the member %s of the group %s subscribes to [%s], but %s subscribes to [%s]; members of one group must subscribe to the same", id, g.name, sign, first.ID, other)
		}
	}
	return ""
}

// guardLocked notes whether the members differ now. It returns a sentence if
// that is news.
func (g *consumerGroup) guardLocked() (news string) {
	first := map[string]*ClientInfo{}
	for _, m := range g.members {
		if e := first[m.signature]; e == nil || m.ID < e.ID {
			first[m.signature] = m
		}
	}
	if len(first) < 2 {
		g.conflict, g.conflicting = "", ""
		return ""
	}
	signs := slices.Sorted(maps.Keys(first))
	if key := strings.Join(signs, "\n"); key != g.conflicting {
		g.conflicting = key
		parts := make([]string, len(signs))
		for i, sign := range signs {
			parts[i] = first[sign].ID + " subscribes to [" + sign + "]"
		}
		g.conflict = "members of the group " + g.name + " subscribe to different things: " + strings.Join(parts, ", ")
		return g.conflict
	}
	return ""
}

// Conflicts returns the groups whose members subscribe to different things now,
// with a sentence for each.
func (c *Clients) Conflicts() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]string{}
	for name, g := range c.consumers {
		if g.conflict != "" {
			found[name] = g.conflict
		}
	}
	return found
}

// Conflict returns a sentence if the group's members subscribe to different
// things now, and "" otherwise.
func (c *Clients) Conflict(group string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.consumers[group]; g != nil {
		return g.conflict
	}
	return ""
}

// rejectsLocked tells whether the group refuses members that differ.
func (c *Clients) rejectsLocked(group string) bool {
	config := c.groups.Lookup(group)
	return config != nil && config.Attributes[AttributeGuard] == GuardReject
}
