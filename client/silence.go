package client

import (
	"sync"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// silence turns rocketmq-client-go's own log off: it writes to standard error
// at every step, and what matters of it comes back as an error. The logger is
// one for the process, so it is set once and never back.
var silence = sync.OnceFunc(func() { rlog.SetLogger(mute{}) })

// mute is a logger of rocketmq-client-go that says nothing.
type mute struct{}

func (mute) Debug(string, map[string]any)   {}
func (mute) Info(string, map[string]any)    {}
func (mute) Warning(string, map[string]any) {}
func (mute) Error(string, map[string]any)   {}
func (mute) Fatal(string, map[string]any)   {}
func (mute) Level(string)                   {}
func (mute) OutputPath(string) error        { return nil }
