package client

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// SetGroupAttributes changes attributes of a group at every master that knows
// it; an empty value removes one. The keys retryPolicy, retryMaxTimes and
// retryQueueNums change the group's settings of that name; see GroupFields. It returns the names of the brokers, which
// are left as they are if dry is set. ErrNotFound: no broker knows the group.
func (a *Admin) SetGroupAttributes(ctx context.Context, group string, changes map[string]string, dry bool) ([]string, error) {
	brokers, err := a.masters(ctx, "", "")
	if err != nil {
		return nil, err
	}
	var done []string
	for _, b := range brokers {
		table, err := a.groupTable(ctx, b)
		if err != nil {
			return done, err
		}
		c, known := table[group]
		if !known {
			continue
		}
		current := c.Attributes
		c.Attributes = map[string]string{}
		for key, value := range changes {
			if own, err := setGroupField(&c, key, value); err != nil {
				return done, fmt.Errorf("group %s: %w", group, err)
			} else if own {
				continue
			}
			if _, has := current[key]; value != "" {
				c.Attributes["+"+key] = value
			} else if has {
				c.Attributes["-"+key] = ""
			}
		}
		if !dry {
			if _, err := a.call(ctx, roleBroker, b.Addr, "change the group "+group, remoting.ReqUpdateAndCreateSubscriptionGroup, nil, body.Encode(c)); err != nil {
				return done, err
			}
		}
		done = append(done, b.Name)
	}
	if len(done) == 0 {
		return nil, fmt.Errorf("group %s: no broker knows it (groups are made when a consumer first connects): %w", group, ErrNotFound)
	}
	return done, nil
}

// GroupFields says for people what SetGroupAttributes takes besides attributes.
const GroupFields = `  retryPolicy               how long a message waits before it is tried again:
                            a list of waits, the last one for all further
                            retries (10s,30s,5m), exponential:FIRST,LONGEST,FACTOR
                            (exponential:5s,2h,2), or levels: the delay levels.
  retryMaxTimes             how often it is tried again.
  retryQueueNums            queues of the retry topic.`

// setGroupField changes a setting that is no attribute; false if key is one.
func setGroupField(c *body.SubscriptionGroupConfig, key, value string) (bool, error) {
	switch key {
	case "retryPolicy":
		policy, err := parseRetryPolicy(value)
		if err == nil {
			c.GroupRetryPolicy = policy
		}
		return true, err
	case "retryMaxTimes", "retryQueueNums":
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			return true, fmt.Errorf("%s=%q: want a number, 0 or more", key, value)
		}
		if key == "retryMaxTimes" {
			c.RetryMaxTimes = int32(n)
		} else {
			c.RetryQueueNums = int32(n)
		}
		return true, nil
	}
	return false, nil
}

// parseRetryPolicy reads what GroupFields describes. Brokers begin a list with
// its third step, for their own begins with two short delays that no retry
// uses: the first wait is put before it twice, so that it comes first.
func parseRetryPolicy(text string) (body.GroupRetryPolicy, error) {
	policy := body.GroupRetryPolicy{Type: "CUSTOMIZED"}
	if text == "" || text == "levels" {
		return policy, nil
	}
	waits, exponential := strings.CutPrefix(text, "exponential:")
	parts := strings.Split(waits, ",")
	factor := int64(0)
	if exponential {
		n, err := strconv.ParseInt(parts[len(parts)-1], 10, 64)
		if len(parts) != 3 || err != nil || n < 1 {
			return policy, fmt.Errorf("retryPolicy=%q: want exponential:FIRST,LONGEST,FACTOR as exponential:5s,2h,2", text)
		}
		factor, parts = n, parts[:2]
	}
	ms := make([]int64, len(parts))
	for i, part := range parts {
		d, err := time.ParseDuration(part)
		if err != nil || d < 0 {
			return policy, fmt.Errorf("retryPolicy=%q: %q is no duration as 30s; want a list as 10s,30s,5m, exponential:5s,2h,2, or levels", text, part)
		}
		ms[i] = d.Milliseconds()
	}
	if exponential {
		policy.Type, policy.Exponential = "EXPONENTIAL", &body.ExponentialRetryPolicy{Initial: ms[0], Max: ms[1], Multiplier: factor}
	} else {
		policy.Customized = &body.CustomizedRetryPolicy{Next: append([]int64{ms[0], ms[0]}, ms...)}
	}
	return policy, nil
}

// CreateGroup makes a group with Apache's defaults at every broker that is a
// master and does not know it, and returns the names of those.
func (a *Admin) CreateGroup(ctx context.Context, group string) ([]string, error) {
	brokers, err := a.masters(ctx, "", "")
	if err != nil {
		return nil, err
	}
	var done []string
	for _, b := range brokers {
		table, err := a.groupTable(ctx, b)
		if err != nil {
			return done, err
		}
		if _, known := table[group]; known {
			continue
		}
		config := body.Encode(body.NewSubscriptionGroupConfig(group))
		if _, err := a.call(ctx, roleBroker, b.Addr, "create the group "+group, remoting.ReqUpdateAndCreateSubscriptionGroup, nil, config); err != nil {
			return done, err
		}
		done = append(done, b.Name)
	}
	return done, nil
}
