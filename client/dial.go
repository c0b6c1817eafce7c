package client

import (
	"context"

	"github.com/merlinmq/merlin/remoting"
)

// dial connects by remoting.
func dial(ctx context.Context, addr string) (caller, error) {
	c, err := remoting.Dial(ctx, addr, remoting.ClientOptions{})
	if err != nil {
		return nil, err
	}
	return c, nil
}
