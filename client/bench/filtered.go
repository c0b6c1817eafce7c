package bench

import (
	"context"
	"encoding/json"
	"sync"
	"time"
)

// filterGroup is the group of reads with an SQL92 filter: brokers compile the
// expressions of subscriptions that came with a heartbeat once.
const filterGroup = "bench-filter"

// heartbeatEvery keeps the subscription alive, for which brokers take 120 s.
const heartbeatEvery = 30 * time.Second

// subscribe makes the group's subscription to the topic an SQL92 expression,
// and keeps it alive until stop, which waits.
func (c *control) subscribe(ctx context.Context, topic, expression string) (stop func(), err error) {
	beat, err := json.Marshal(map[string]any{
		"clientID": "bench@filter", "producerDataSet": []any{},
		"consumerDataSet": []any{map[string]any{
			"groupName": filterGroup, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
			"consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "unitMode": false,
			"subscriptionDataSet": []any{map[string]any{
				"topic": topic, "subString": expression, "expressionType": "SQL92", "subVersion": time.Now().UnixMilli(),
				"tagsSet": []string{}, "codeSet": []int{}, "classFilterMode": false,
			}},
		}},
	})
	if err != nil {
		return nil, err
	}
	if err := c.heartbeat(beat); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var alive sync.WaitGroup
	alive.Go(func() {
		tick := time.NewTicker(heartbeatEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if c.heartbeat(beat) != nil {
					return // the pulls will be refused, and say why
				}
			}
		}
	})
	return func() { cancel(); alive.Wait() }, nil
}

func (c *control) heartbeat(beat []byte) error {
	a, err := c.call(func(w *requestWriter, opaque int32) []byte {
		w.begin(nil, codeHeartbeat)
		b, _ := w.end(opaque, beat)
		return b
	})
	if err == nil && a.code != ok {
		err = &ServerError{Addr: c.addr, Did: "subscribing with an SQL92 filter", Code: a.code, Remark: a.remark()}
	}
	return err
}
