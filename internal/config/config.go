// Package config reads Apache RocketMQ's broker.conf and namesrv.conf and says of every setting in them what becomes of
// it: used, renamed, ignored because, unknown.
//
// It knows every setting of Apache 5.5.0 and 4.9.7 with its default, and Merlin's own. Nothing is ignored silently: Load
// returns one Line for every setting that is given, and an error that names file, line, setting and what is allowed for
// every value that does not parse. Later settings win over earlier ones, --set over the file.
//
// A Config is safe for concurrent use. Its getters parse text: read what a hot path needs once, and Subscribe to changes.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Verdict is what becomes of a given setting.
type Verdict string

// The verdicts.
const (
	Used    Verdict = "used"
	Renamed Verdict = "renamed"
	Ignored Verdict = "ignored"
	Unknown Verdict = "unknown"
)

// Line says what became of one given setting.
type Line struct {
	Key, Value string // as given
	Source     string // file:line, or --set
	Verdict    Verdict
	Text       string // "renamed to …", "ignored because …", "unknown (did you mean …?)", "used"
	Warn       bool   // the operator relies on it and does not get it
}

func (l Line) String() string {
	return fmt.Sprintf("%s: %s=%s: %s", l.Source, l.Key, l.Value, l.Text)
}

// Config is the settings of one program.
type Config struct {
	role Role
	keys map[string]Key

	mu     sync.RWMutex                         // guards what follows
	values map[string]string                    // effective values that differ from the default, by current name
	given  map[string]string                    // where a setting came from
	subs   map[string][]func(key, value string) // by key
	asked  map[string]bool                      // for what getters were asked
}

// Errors of Update.
var (
	ErrForbidden = errors.New("config: the setting may not be changed from outside")
	ErrRestart   = errors.New("config: the setting is read at start alone")
	ErrUnknown   = errors.New("config: there is no such setting")
)

// Load reads file, if not "", and then sets, each key=value. The lines come in the order given, also with an error,
// which joins everything that is wrong.
func Load(role Role, file string, sets []string) (*Config, []Line, error) {
	c := New(role)
	var all []setting
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return c, nil, fmt.Errorf("configuration: %w", err)
		}
		if all, err = parseFile(file, string(text)); err != nil {
			return c, nil, err
		}
	}
	for _, s := range sets {
		key, value, ok := strings.Cut(s, "=")
		if key = strings.TrimSpace(key); !ok || key == "" {
			return c, nil, fmt.Errorf("--set %q: it must be key=value", s)
		}
		all = append(all, setting{key, strings.TrimSpace(value), "--set"})
	}
	lines, err := c.take(all)
	return c, lines, err
}

// New returns a configuration in which nothing is given.
func New(role Role) *Config {
	return &Config{role: role, keys: bareKeys(role), values: map[string]string{}, given: map[string]string{}, subs: map[string][]func(string, string){}, asked: map[string]bool{}}
}

// setting is one given key with its place.
type setting struct{ key, value, source string }

func (c *Config) take(all []setting) ([]Line, error) {
	lines := make([]Line, len(all))
	last := map[string]int{} // current name → the setting that counts
	for i, s := range all {
		last[current(s.key)] = i
	}
	var wrong []error
	for i, s := range all {
		lines[i] = Line{Key: s.key, Value: s.value, Source: s.source}
		name := current(s.key)
		k, known := c.keys[name]
		switch {
		case !known && powerless[s.key] != "":
			lines[i].Verdict, lines[i].Text = Ignored, "ignored: "+powerless[s.key]
			continue
		case !known:
			lines[i].Verdict, lines[i].Text, lines[i].Warn = Unknown, c.unknownText(s.key), true
			continue
		}
		value, err := expand(s.value)
		if err == nil {
			value, err = k.parse(value)
		}
		if err != nil && k.Used {
			wrong = append(wrong, fmt.Errorf("%s: %s=%s: %w", s.source, s.key, s.value, err))
		}
		lines[i].Verdict, lines[i].Text, lines[i].Warn = c.verdict(k, s, value, last[name] == i, all[last[name]])
		if k.Used && err == nil && last[name] == i {
			c.values[name], c.given[name] = value, s.source
		}
	}
	for i := range lines {
		if lines[i].Key == "storePathCommitLog" && lines[i].Value != "" {
			lines[i].Warn = filepath.Clean(lines[i].Value) != filepath.Join(c.text("storePathRootDir"), "commitlog")
		}
	}
	if err := c.check(); err != nil {
		wrong = append(wrong, err)
	}
	return lines, errors.Join(wrong...)
}

// Override makes the lines say that a flag is given in place of the settings: what they say does not count.
func Override(lines []Line, flag string, keys ...string) {
	for i := range lines {
		l := &lines[i]
		if !slices.Contains(keys, current(l.Key)) {
			continue
		}
		switch l.Verdict {
		case Used:
			l.Text = "ignored because " + flag + " is given"
		case Renamed:
			l.Text += ", and ignored because " + flag + " is given"
		default:
			continue
		}
		l.Verdict = Ignored
	}
}

func current(key string) string {
	if now, ok := renamed[key]; ok {
		return now
	}
	return key
}

func (c *Config) unknownText(key string) string {
	other := Broker
	if c.role == Broker {
		other = NameServer
	}
	if _, theirs := bareKeys(other)[key]; theirs && mistaken[key] == "" {
		return "unknown: it is a setting of the " + other.String()
	}
	return "unknown (" + hint(key, c.keys) + ")"
}

func (c *Config) verdict(k Key, s setting, value string, counts bool, winner setting) (Verdict, string, bool) {
	k = k.explained()
	called := ""
	if k.Name != s.key {
		called = "renamed to " + k.Name
	}
	switch {
	case !k.Used:
		text := "ignored: " + k.Note
		if called != "" {
			text = called + ", and ignored: " + k.Note
		}
		return Ignored, text, k.Warn && !strings.EqualFold(value, "false") && value != ""
	case !counts:
		return Ignored, "ignored: given again at " + winner.source, false
	case called != "":
		return Renamed, called, false
	}
	return Used, "used", false
}

// check refuses what each setting allows and all together do not.
func (c *Config) check() error {
	if c.role == Broker && c.Text("brokerRole") == "SLAVE" {
		return fmt.Errorf("%s: brokerRole=SLAVE: this broker does not replicate from another one yet, and as a master of the same name it would split its group", c.given["brokerRole"])
	}
	return nil
}

// Given says whether a setting was given and counts.
func (c *Config) Given(key string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, ok := c.given[key]
	return ok
}

// Key returns what is known of a setting.
func (c *Config) Key(name string) (Key, bool) {
	k, ok := c.keys[name]
	return k.explained(), ok
}

// Text returns a setting as text. Like all getters it panics for a name that is no setting that Merlin uses, which no
// input can bring about.
func (c *Config) Text(key string) string {
	text := c.text(key)
	c.mu.Lock()
	c.asked[key] = true
	c.mu.Unlock()
	return text
}

// Unread lists what would be said to be used and is not: the settings that no getter was asked for yet, and of those
// that can change while the program runs those that nobody subscribes to. It is for tests.
func (c *Config) Unread() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var names []string
	for name, k := range c.keys {
		if k.Used && (!c.asked[name] || k.Hot && len(c.subs[name]) == 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// text is Text for what is not using the setting.
func (c *Config) text(key string) string {
	k, ok := c.keys[key]
	if !ok || !k.Used {
		panic("config: " + key + " is no setting that is used")
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if v, ok := c.values[key]; ok {
		return v
	}
	return k.Default
}

// Bool returns a Bool setting.
func (c *Config) Bool(key string) bool { return c.Text(key) == "true" }

// Int64 returns a number: of an Int, Int64, Size, Millis or Seconds setting.
func (c *Config) Int64(key string) int64 {
	n, err := strconv.ParseInt(c.Text(key), 10, 64)
	if err != nil {
		panic("config: " + key + " is no number")
	}
	return n
}

// Int is Int64 as an int.
func (c *Config) Int(key string) int { return int(c.Int64(key)) }

// Duration returns a Millis or Seconds setting.
func (c *Config) Duration(key string) time.Duration {
	if c.keys[key].Kind == Seconds {
		return time.Duration(c.Int64(key)) * time.Second
	}
	return time.Duration(c.Int64(key)) * time.Millisecond
}

// String is the configuration as properties text: every setting that Merlin uses, sorted.
func (c *Config) String() string {
	names := make([]string, 0, len(c.keys))
	for n, k := range c.keys {
		if k.Used {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	var b strings.Builder
	for _, n := range names {
		b.WriteString(n + "=" + strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(c.text(n)) + "\n")
	}
	return b.String()
}

// Set gives a setting a value that the program chose, such as a port that was picked.
func (c *Config) Set(key, value string) error {
	k, ok := c.keys[key]
	if !ok || !k.Used {
		return fmt.Errorf("%w: %s", ErrUnknown, key)
	}
	value, err := k.parse(value)
	if err != nil {
		return fmt.Errorf("%s=%s: %w", key, value, err)
	}
	c.mu.Lock()
	c.values[key] = value
	subs := slices.Clone(c.subs[key])
	c.mu.Unlock()
	for _, fn := range subs {
		fn(key, value)
	}
	return nil
}

// forbidden are settings that must not be reached over the network.
var forbidden = map[string]bool{"configBlackList": true, "configStorePath": true, "kvConfigPath": true, "brokerConfigPath": true,
	"rocketmqHome": true, "storePathRootDir": true, "storePathCommitLog": true}

// Update changes a setting of the running program and tells its subscribers. The error wraps ErrForbidden, ErrRestart or
// ErrUnknown, or says what the value must be; then nothing is changed.
func (c *Config) Update(key, value string) error {
	name := current(key)
	k, known := c.keys[name]
	switch {
	case forbidden[name]:
		return fmt.Errorf("%w: %s is in the black list", ErrForbidden, key)
	case !known:
		return fmt.Errorf("%w: %s (%s)", ErrUnknown, key, hint(key, c.keys))
	case !k.Used:
		return fmt.Errorf("%w that would be used: %s is ignored: %s", ErrUnknown, key, k.explained().Note)
	case !k.Hot:
		parsed, err := k.parse(value)
		if err == nil && parsed == c.text(name) {
			return nil // tools send back what they were given
		}
		return fmt.Errorf("%w: write %s into the configuration file and restart", ErrRestart, key)
	}
	return c.Set(name, value)
}

// Subscribe calls fn after each change of key. fn must not block.
func (c *Config) Subscribe(key string, fn func(key, value string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[key] = append(c.subs[key], fn)
}
