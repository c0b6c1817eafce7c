package main

import (
	"fmt"
	"net"

	"github.com/merlinmq/merlin/internal/config"
)

// startLine is one line of what a command that serves says at its start: an
// object with --json, else its text.
type startLine struct {
	Event   string         `json:"event"` // setting, listening or ready
	What    string         `json:"what,omitempty"`
	Address string         `json:"address,omitempty"`
	PID     int            `json:"pid,omitempty"`
	Key     string         `json:"key,omitempty"`
	Value   *string        `json:"value,omitempty"` // of a setting, as it was given
	Source  string         `json:"source,omitempty"`
	Verdict config.Verdict `json:"verdict,omitempty"`
	Text    string         `json:"text,omitempty"` // what became of a setting

	plain string
}

// announce says one line. Who has closed the output wants none, and is served
// all the same.
func (a *app) announce(l startLine) {
	if a.json {
		_ = a.printLine(l)
		return
	}
	fmt.Fprintln(a.out, l.plain)
}

// announceSetting says what became of a setting.
func (a *app) announceSetting(l config.Line) {
	a.announce(startLine{Event: "setting", Key: l.Key, Value: &l.Value, Source: l.Source, Verdict: l.Verdict, Text: l.Text, plain: l.String()})
}

// announceListener says where a part can be reached.
func (a *app) announceListener(what string, at net.Addr) {
	addr := told(at)
	a.announce(startLine{Event: "listening", What: what, Address: addr, plain: what + " listening on " + addr})
}

// announceReady says that all parts serve.
func (a *app) announceReady() { a.announce(startLine{Event: "ready", plain: "ready"}) }

// jsonStart is what the help of commands that serve says about --json.
const jsonStart = `With --json each line at the start is an object: {"event":"setting","key","value","source",
"verdict","text"}, {"event":"listening","what","address"} and at last {"event":"ready"}.`
