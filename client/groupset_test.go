package client

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/merlinmq/merlin/remoting/body"
)

func TestGroupFields(t *testing.T) {
	list := func(next ...int64) body.GroupRetryPolicy {
		return body.GroupRetryPolicy{Type: "CUSTOMIZED", Customized: &body.CustomizedRetryPolicy{Next: next}}
	}
	for text, want := range map[string]body.GroupRetryPolicy{
		"levels":                list(),
		"10s":                   list(10_000, 10_000, 10_000),
		"500ms,1m":              list(500, 500, 500, 60_000),
		"exponential:5s,2h,2":   {Type: "EXPONENTIAL", Exponential: &body.ExponentialRetryPolicy{Initial: 5000, Max: 7_200_000, Multiplier: 2}},
		"exponential:5s,2h":     {},
		"exponential:5s,2h,0":   {},
		"10s,soon":              {},
		"-1s":                   {},
		"exponential:a,b,3":     {},
		"exponential:1s,2s,3,4": {},
	} {
		if text == "levels" {
			want.Customized = nil
		}
		c := body.SubscriptionGroupConfig{}
		own, err := setGroupField(&c, "retryPolicy", text)
		if diff := cmp.Diff(want, c.GroupRetryPolicy); !own || (err != nil) != (want.Type == "") || diff != "" {
			t.Errorf("%q: %v\n%s", text, err, diff)
		}
	}
	c := body.SubscriptionGroupConfig{}
	for key, value := range map[string]string{"retryMaxTimes": "3", "retryQueueNums": "2"} {
		if own, err := setGroupField(&c, key, value); !own || err != nil {
			t.Error(key, err)
		}
		for _, wrong := range []string{"", "x", "-1", fmt.Sprint(1 << 40)} {
			if _, err := setGroupField(&c, key, wrong); err == nil {
				t.Errorf("%s=%q was taken", key, wrong)
			}
		}
	}
	if own, _ := setGroupField(&c, "initialPosition", "latest"); own || c.RetryMaxTimes != 3 || c.RetryQueueNums != 2 {
		t.Errorf("%t %+v", own, c)
	}
}
