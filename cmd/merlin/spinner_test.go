package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/client"
)

func TestSpinner(t *testing.T) {
	for name, c := range map[string]struct {
		terminal bool
		work     func(a *app)
		err      string // what standard error gets, with the last of several spinner lines alone
		out      string
	}{
		"quick":    {true, func(*app) { time.Sleep(barAfter - time.Millisecond) }, "", ""},
		"slow":     {true, func(*app) { time.Sleep(3100 * time.Millisecond) }, "\r/ merlin slow, 3 s\r" + strings.Repeat(" ", 18) + "\r", ""},
		"piped":    {false, func(*app) { time.Sleep(time.Minute) }, "", ""},
		"speaks":   {true, func(a *app) { fmt.Fprint(a.out, "first"); time.Sleep(time.Minute) }, "", "first"},
		"complain": {true, func(a *app) { fmt.Fprint(a.err, "careful"); time.Sleep(time.Minute) }, "careful", ""},
		"late": {true, func(a *app) {
			time.Sleep(2100 * time.Millisecond)
			fmt.Fprint(a.out, "at last")
			time.Sleep(time.Minute)
		}, "\r| merlin slow, 2 s\r" + strings.Repeat(" ", 18) + "\r", "at last"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out, err bytes.Buffer
				a := &app{streams: streams{out: &out, err: &err, env: func(string) string { return "" }, outTerminal: c.terminal, errTerminal: c.terminal}}
				root, cmd := &cobra.Command{Use: "merlin"}, &cobra.Command{Use: "slow"}
				root.AddCommand(cmd)
				cmd.SetContext(context.Background())
				if e := a.withAdmin(cmd, func(context.Context, *client.Admin) error { c.work(a); return nil }); e != nil {
					t.Fatal(e)
				}
				got := err.String()
				if last := strings.LastIndex(got, " merlin slow"); last > 2 {
					got = got[last-2:]
				}
				if got != c.err || out.String() != c.out {
					t.Errorf("standard error has %q and standard output %q, want %q and %q", got, out.String(), c.err, c.out)
				}
				if a.out != &out || a.err != &err {
					t.Error("the streams are not what they were")
				}
			})
		})
	}
}
