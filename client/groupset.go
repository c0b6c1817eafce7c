package client

import (
	"context"
	"fmt"

	"github.com/merlinmq/merlin/remoting"
	"github.com/merlinmq/merlin/remoting/body"
)

// SetGroupAttributes changes attributes of a group at every master that knows
// it; an empty value removes one. It returns the names of the brokers, which
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
