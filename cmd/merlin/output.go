package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

func systemStreams() streams {
	s := streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv,
		inTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		outTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		errTerminal: term.IsTerminal(int(os.Stderr.Fd())),
	}
	if s.outTerminal {
		s.width, _, _ = term.GetSize(int(os.Stdout.Fd()))
	}
	return s
}

// print writes a command's result: v as one JSON document with --json, else
// what human writes.
func (a *app) print(v any, human func(w io.Writer)) error {
	if !a.json {
		human(a.out)
		return nil
	}
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printLine writes one object of a stream.
func (a *app) printLine(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// rows is a table: drawn on a terminal, plain columns for pipes, so that
// 'awk' and 'cut -f' find them.
type rows struct {
	head []any
	body [][]any
	nums []int // columns that hold numbers, from 1
}

func (r *rows) add(cells ...any) { r.body = append(r.body, cells) }

func (a *app) table(w io.Writer, r *rows) {
	if !a.outTerminal {
		for _, row := range append([][]any{r.head}, r.body...) {
			cells := make([]string, len(row))
			for i, c := range row {
				cells[i] = fmt.Sprint(c)
			}
			fmt.Fprintln(w, strings.Join(cells, "\t"))
		}
		return
	}
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Options.SeparateColumns = false
	t.Style().Options.DrawBorder = false
	t.Style().Format.Header = text.FormatDefault
	if a.width > 0 {
		t.Style().Size.WidthMax = a.width
	}
	t.AppendHeader(r.head)
	for _, row := range r.body {
		t.AppendRow(row)
	}
	var columns []table.ColumnConfig
	for _, n := range r.nums {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	t.Render()
}

// barAfter is how long a command works in silence.
const barAfter = 2 * time.Second

// progress is a bar on a terminal's standard error that appears when work has
// taken over two seconds. Elsewhere it does nothing.
type progress struct {
	a     *app
	what  string
	start time.Time
	bar   *progressbar.ProgressBar
}

func (a *app) progress(what string) *progress {
	return &progress{a: a, what: what, start: time.Now()}
}

// phase begins another piece of work: its bar starts anew.
func (p *progress) phase(what string) {
	if what != p.what {
		p.done()
		p.what = what
	}
}

// set shows done of total; a total of 0 is unknown.
func (p *progress) set(done, total int64) {
	if !p.a.errTerminal || time.Since(p.start) < barAfter {
		return
	}
	if p.bar == nil {
		limit := total
		if limit <= 0 {
			limit = -1
		}
		p.bar = progressbar.NewOptions64(limit, progressbar.OptionSetWriter(p.a.err), progressbar.OptionSetDescription(p.what),
			progressbar.OptionShowCount(), progressbar.OptionSetWidth(30), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	// A bar that cannot be drawn stops nothing.
	_ = p.bar.Set64(min(done, max(total, done)))
}

// done takes the bar away.
func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Clear() // as above
		p.bar = nil
	}
}

// when writes a time for people, with the milliseconds that messages have.
func when(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}

// span writes seconds as people say them.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Hour:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// orDash writes - for nothing.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
