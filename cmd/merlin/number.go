package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/merlinmq/merlin/client"
)

// numbered makes message i of a send. With a count, %d stands for its number.
func numbered(topic string, body []byte, f *sendFlags, props map[string]string, i int) *client.Outgoing {
	m := &client.Outgoing{Topic: topic, Body: body, Tag: f.tag, Keys: f.keys, Properties: props, Queue: f.queue, Broker: f.broker}
	if f.count == 1 {
		return m
	}
	n := strconv.Itoa(i)
	m.Body = bytes.ReplaceAll(body, []byte("%d"), []byte(n))
	m.Keys = make([]string, len(f.keys))
	for k, key := range f.keys {
		m.Keys[k] = strings.ReplaceAll(key, "%d", n)
	}
	m.Properties = make(map[string]string, len(props))
	for k, v := range props {
		m.Properties[k] = strings.ReplaceAll(v, "%d", n)
	}
	return m
}

// parseDelay reads a delay level, which is a bare number, or a duration.
func parseDelay(text string) (level int, d time.Duration, err error) {
	if text == "" {
		return 0, 0, nil
	}
	if level, err = strconv.Atoi(text); err == nil && level > 0 {
		return level, 0, nil
	}
	if d, err = time.ParseDuration(text); err == nil && d > 0 {
		return 0, d, nil
	}
	return 0, 0, fmt.Errorf("%q: want a duration as 30s, or a level from 1 on", text)
}
