package nameserver

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Each cause is in the documentation with its first words, and the documentation has no other.
func TestDocumentedCausesAreReal(t *testing.T) {
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## \"No route info of this topic\"")
	section, _, _ = strings.Cut(section, "\n## ")
	said := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(section, -1) {
		said[row[1]] = false
	}
	gone := []Departure{{Broker: "X", Addr: "A", Why: "WHY"}}
	for name, w := range map[string]Why{
		"nobody":          {Topic: "t"},
		"gone":            {Topic: "t", Gone: gone, Registered: 1},
		"creates":         {Topic: "t", Registered: 1, AutoCreates: true},
		"does not create": {Topic: "t", Registered: 1},
		"retry":           {Topic: "%RETRY%g", Registered: 1},
	} {
		cause, found := strings.ReplaceAll(w.Cause(), clock(time.Time{}), "T"), false
		for words := range said {
			if strings.HasPrefix(cause, words) {
				said[words], found = true, true
			}
		}
		if !found {
			t.Errorf("%s: the documentation lacks %q", name, cause)
		}
	}
	for words, real := range said {
		if !real {
			t.Errorf("the documentation tells of a cause that there is not: %s", words)
		}
	}
}
