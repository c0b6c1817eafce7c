package ordered

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestCheck: what members print, and what Check says of it. Times are seconds.
func TestCheck(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(0, int64(s*1e9)) }
	killed, frozen := &gap{from: at(5)}, &gap{from: at(5), to: at(20)}
	rules := Rules{Repeats: 3 * time.Second, Locked: 4 * time.Second}
	restarted := rules
	restarted.Restarted = at(3)
	for _, c := range []struct {
		name  string
		said  map[string]string // lines of "QUEUE OFFSET BEGIN END", by member; no END: it goes on
		gap   *gap              // of A
		rules Rules
		want  string // what is wrong, "" for nothing
	}{
		{"in order", map[string]string{"A": "0 0 1 2; 1 0 1 2; 0 1 2 3; 0 2 3 4"}, nil, rules, ""},
		{"the unfinished again", map[string]string{"A": "0 0 1 2; 0 0 3 4; 0 1 5 6"}, nil, rules, ""},
		{"first skipped", map[string]string{"A": "0 1 1 2"}, nil, rules, "nobody has handled 0"},
		{"skipped at a change", map[string]string{"A": "0 0 1 2", "B": "0 2 6 7"}, nil, rules, "nobody has handled 1"},
		{"backwards", map[string]string{"A": "0 0 1 1.1; 0 1 2 2.1; 0 0 3 3.1"}, nil, rules, "A goes from offset 1 to 0"},
		{"backwards behind a restart", map[string]string{"A": "0 0 1 1.1; 0 1 2 2.1; 0 0 3.1 3.2; 0 1 3.3 3.4"}, nil, restarted, ""},
		{"two threads", map[string]string{"A": "0 0 1 3; 0 1 2 4"}, nil, rules, "A begins with offset 1 while A handles offset 0"},
		{"two members", map[string]string{"A": "0 0 1 3", "B": "0 1 2 4"}, nil, rules, "B begins with offset 1 while A handles offset 0"},
		{"handled for ever", map[string]string{"A": "0 0 1", "B": "0 0 9 10"}, nil, rules, "while A handles offset 0"},
		{"killed", map[string]string{"A": "0 0 3 3.5; 0 1 4 4.5; 0 2 4.9", "B": "0 1 9 9.5; 0 2 10 11; 0 3 12 13"}, killed, rules, ""},
		{"killed, repeats too much", map[string]string{"A": "0 0 1 1.1; 0 1 2 2.2; 0 2 4.9", "B": "0 0 9 9.5; 0 1 10 11; 0 2 12 13"}, killed, rules, "goes back from offset 2 to 0"},
		{"killed, taken at once", map[string]string{"A": "0 0 4 4.5", "B": "0 1 5.5 6"}, killed, rules, "whose lock must last longer"},
		{"stands still", map[string]string{"A": "0 0 4.9 20.1; 1 0 21 22", "B": "0 0 10 11; 0 1 12 13"}, frozen, rules, ""},
		{"begins before it stands still", map[string]string{"A": "0 0 5.1 20.1", "B": "0 0 10.3 11; 0 1 12 13"}, frozen, rules, ""},
		{"begins as it goes on", map[string]string{"A": "0 0 4 4.5; 0 1 20.1 20.2; 0 4 30 31", "B": "0 1 10.3 11; 0 2 12 13; 0 3 20 21"}, frozen, rules, ""},
		{"begins as it goes on, with another", map[string]string{"A": "0 0 4 4.5; 0 2 20.1 20.2; 0 4 30 31", "B": "0 1 10.3 11; 0 2 12 13; 0 3 20 21"}, frozen, rules, "A begins with offset 2 while B handles offset 3"},
		{"begins as it goes on, and nobody had it", map[string]string{"A": "0 0 4 4.5; 0 1 20.1 20.2; 0 3 30 31"}, frozen, rules, "nobody has handled 2"},
		{"goes on with two, late", map[string]string{"A": "0 0 4 4.5; 0 1 20.1 20.2; 0 2 20.3 20.4; 0 4 30 31", "B": "0 1 10.3 11; 0 2 12 13; 0 3 20 21"}, frozen, rules, "A begins with offset 2 while B handles offset 3"},
		{"stands still, goes on with two", map[string]string{"A": "0 0 4.9 20.1; 0 1 20.1 20.5", "B": "0 0 10 11; 0 1 20.3 20.6"}, frozen, rules, "B begins with offset 1 while A handles offset 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l Log
			if c.gap != nil {
				l.gap("A", c.gap)
			}
			for member, said := range c.said {
				var in strings.Builder
				for _, line := range strings.Split(said, ";") {
					var queue, offset int
					var begin, end float64
					n, _ := fmt.Sscan(line, &queue, &offset, &begin, &end) // 3 without an end
					fmt.Fprintln(&in, "B", queue, offset, at(begin).UnixNano())
					if n == 4 {
						fmt.Fprintln(&in, "E", queue, offset, at(end).UnixNano())
					}
				}
				l.read(member, strings.NewReader(in.String()))
			}
			r := l.Check(c.rules)
			if got := strings.Join(r.Wrong, "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
