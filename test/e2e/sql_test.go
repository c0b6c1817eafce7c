package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/test/harness"
)

// TestPropertyFilters: groups with SQL92 subscriptions get what their
// expressions let through, of what was there before and of what comes while
// their pulls are parked.
func TestPropertyFilters(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	s := harness.Start(t)
	w := newWorld(t, s.Namesrv)
	topic := w.topic("sql", 2)
	p := w.producer("sql")
	send := func(from, to int) {
		for i := from; i < to; i++ {
			m := primitive.NewMessage(topic, fmt.Appendf(nil, "n%02d", i)).WithTag([]string{"even", "odd"}[i%2])
			m.WithProperty("a", fmt.Sprint(i))
			if i%4 == 0 {
				m.WithProperty("name", fmt.Sprint("four", i))
			}
			if _, err := p.SendSync(context.Background(), m); err != nil {
				t.Fatal(err)
			}
		}
	}
	cases := []struct {
		expression string
		want       func(i int) bool
	}{
		{"a BETWEEN 3 AND 6", func(i int) bool { return i >= 3 && i <= 6 }},
		{"a > 15 OR a <= 1", func(i int) bool { return i > 15 || i <= 1 }},
		{"name IS NOT NULL AND a < 30", func(i int) bool { return i%4 == 0 && i < 30 }},
		{"TAGS = 'odd' AND a IN ('1', '4', '33')", func(i int) bool { return i == 1 || i == 33 }},
		{"name STARTSWITH 'four1' AND NOT (a = 12.0)", func(i int) bool { return i == 16 }},
		{"a = 39 AND missing IS NULL", func(i int) bool { return i == 39 }},
		{"TRUE", func(int) bool { return true }},
	}
	send(0, 20)
	boxes := make([]inbox, len(cases))
	for i, c := range cases {
		group := fmt.Sprint("sql", i)
		pc := w.subscribed(group, topic, consumer.MessageSelector{Type: consumer.SQL92, Expression: c.expression}, boxes[i].take)
		if err := pc.Start(); err != nil {
			t.Fatal(err)
		}
	}
	check := func(end int) {
		for i, c := range cases {
			var want []string
			for n := range end {
				if c.want(n) {
					want = append(want, fmt.Sprintf("n%02d", n))
				}
			}
			w.eventually(fmt.Sprintf("%s of %d messages", c.expression, end), func() bool { return slices.Equal(boxes[i].bodies(), want) })
		}
	}
	check(20)
	send(20, 40)
	check(40)
}
