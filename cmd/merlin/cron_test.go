package main

import (
	"slices"
	"testing"
	"time"

	"github.com/merlinmq/merlin/client"
)

func TestCronListFiltersAndPages(t *testing.T) {
	at := func(hour int) client.Instant {
		return client.Instant{Time: time.Date(2030, 1, 1, hour, 0, 0, 0, time.UTC)}
	}
	all := []client.Schedule{
		{Name: "a", Topic: "t", Keys: "k1 k2", Next: at(1)}, {Name: "b", Topic: "t", Next: at(2)}, {Name: "b", Topic: "t", Next: at(2), Broker: "other"},
		{Name: "c", Topic: "u", Keys: "k2", Next: at(3)}, {Name: "d", Topic: "t"},
	}
	for _, c := range []struct {
		f    cronFilter
		want []string
		next string
	}{
		{cronFilter{max: 9}, []string{"a", "b", "b", "c", "d"}, ""},
		{cronFilter{max: 2}, []string{"a", "b", "b"}, "b"},
		{cronFilter{max: 2, after: "b"}, []string{"c", "d"}, ""},
		{cronFilter{max: 9, topic: "t"}, []string{"a", "b", "b", "d"}, ""},
		{cronFilter{max: 9, key: "k2"}, []string{"a", "c"}, ""},
		{cronFilter{max: 1, key: "k2"}, []string{"a"}, "a"},
		{cronFilter{max: 9, from: at(2).Time, to: at(3).Time}, []string{"b", "b"}, ""},
	} {
		list, next := c.f.page(all)
		var names []string
		for _, s := range list {
			names = append(names, s.Name)
		}
		if !slices.Equal(names, c.want) || next != c.next {
			t.Errorf("%+v: %q, next %q; want %q, %q", c.f, names, next, c.want, c.next)
		}
	}
}
