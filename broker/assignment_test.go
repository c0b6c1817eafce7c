package broker

import (
	"fmt"
	"slices"
	"testing"
)

// TestAssign: whatever the number of members, each queue has one owner, and
// nobody has two more than another.
func TestAssign(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	const queues = 7
	if err := b.topics.Update(TopicConfig{Name: "assigned", ReadQueues: queues, WriteQueues: queues, Perm: permReadWrite}); err != nil {
		t.Fatal(err)
	}
	if _, known, err := b.Assign("assigned", "g", "m0", AssignAverage, false); known || err != nil {
		t.Errorf("a member that sent no heartbeat: known %t, %v", known, err)
	}
	for n := 1; n <= 9; n++ {
		sub, _ := ParseSubscription("assigned", "*", ExpressionTag, 1)
		if err := b.Heartbeat(&fakeClient{port: uint16(n)}, consume(fmt.Sprint("m", n-1), "g", sub)); err != nil {
			t.Fatal(err)
		}
		for _, strategy := range []string{AssignAverage, AssignCircle} {
			var all []int32
			least, most := queues, 0
			for i := range n {
				mine, known, err := b.Assign("assigned", "g", fmt.Sprint("m", i), strategy, false)
				if err != nil || !known || mine == nil {
					t.Fatalf("%s, member %d of %d: %v, known %t, %v", strategy, i, n, mine, known, err)
				}
				if strategy == AssignAverage && len(mine) > 0 && int(mine[len(mine)-1]-mine[0]) != len(mine)-1 {
					t.Errorf("member %d of %d got %v, which are no neighbours", i, n, mine)
				}
				all = append(all, mine...)
				least, most = min(least, len(mine)), max(most, len(mine))
			}
			slices.Sort(all)
			if !slices.Equal(all, []int32{0, 1, 2, 3, 4, 5, 6}) || most-least > 1 {
				t.Errorf("%s among %d: %v, shares of %d to %d", strategy, n, all, least, most)
			}
		}
	}
	if all, known, err := b.Assign("assigned", "g", "m3", AssignAverage, true); len(all) != queues || !known || err != nil {
		t.Errorf("broadcasting: %v, known %t, %v", all, known, err)
	}
	if _, _, err := b.Assign("assigned", "g", "m3", "NONE", false); err == nil {
		t.Error("an unknown strategy is taken")
	}
	for what, m := range map[string]RequestMode{"a retry topic": {Topic: "%RETRY%g", Group: "g"},
		"no topic": {Topic: "none", Group: "g"}, "no group": {Topic: "assigned", Group: "none"}} {
		if err := b.SetRequestMode(m); err == nil {
			t.Errorf("the mode of %s is taken", what)
		}
	}
	if err := b.SetRequestMode(RequestMode{Topic: "assigned", Group: "g"}); err != nil {
		t.Error(err)
	}
	if all, err := b.RequestModes(); err != nil || len(all) != 1 || all[0].Group != "g" {
		t.Errorf("the modes: %v, %v", all, err)
	}
}

// TestAssignPop: members that pop share all queues, or those of their neighbours.
func TestAssignPop(t *testing.T) {
	b := openBroker(t, t.TempDir(), nil)
	if err := b.topics.Update(TopicConfig{Name: "assigned", ReadQueues: 7, WriteQueues: 7, Perm: permReadWrite}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		sub, _ := ParseSubscription("assigned", "*", ExpressionTag, 1)
		if err := b.Heartbeat(&fakeClient{port: uint16(i + 1)}, consume(fmt.Sprint("m", i), "g", sub)); err != nil {
			t.Fatal(err)
		}
	}
	if _, pops, _, err := b.AssignPop("assigned", "g", "m0", AssignAverage); pops || err != nil {
		t.Errorf("a group that pulls: pops %t, %v", pops, err)
	}
	for shared, want := range map[int32][]int32{-1: {AnyQueue}, 0: {AnyQueue}, 1: {0, 1, 2, 3, 4}, 2: {AnyQueue}, 100: {AnyQueue}} {
		if err := b.SetRequestMode(RequestMode{Topic: "assigned", Group: "g", Pop: true, Shared: shared}); err != nil {
			t.Fatal(err)
		}
		got, pops, known, err := b.AssignPop("assigned", "g", "m0", AssignAverage)
		if !slices.Equal(got, want) || !pops || !known || err != nil {
			t.Errorf("shared by %d: %v, pops %t, known %t, %v; want %v", shared, got, pops, known, err, want)
		}
	}
	if _, pops, known, err := b.AssignPop("assigned", "g", "stranger", AssignAverage); !pops || known || err != nil {
		t.Errorf("a stranger: pops %t, known %t, %v", pops, known, err)
	}
}
