package config

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/magiconair/properties"
)

// parseFile splits a properties text into settings with their lines. Every logical line goes through the properties
// package on its own, which knows escapes but not line numbers.
func parseFile(file, text string) ([]setting, error) {
	var all []setting
	lines := strings.Split(strings.TrimPrefix(strings.ReplaceAll(text, "\r\n", "\n"), "\uFEFF"), "\n")
	loader := properties.Loader{Encoding: properties.UTF8, DisableExpansion: true}
	for i := 0; i < len(lines); i++ {
		start := i
		logical := lines[i]
		trimmed := strings.TrimLeft(logical, " \t\f")
		if trimmed == "" || trimmed[0] == '#' || trimmed[0] == '!' {
			continue
		}
		for oddBackslashes(logical) && i+1 < len(lines) {
			i++
			logical += "\n" + lines[i]
		}
		p, err := loader.LoadBytes([]byte(logical))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, start+1, err)
		}
		for _, key := range p.Keys() {
			value, _ := p.Get(key)
			all = append(all, setting{key, strings.TrimSpace(value), file + ":" + strconv.Itoa(start+1)})
		}
	}
	return all, nil
}

func oddBackslashes(s string) bool {
	return (len(s)-len(strings.TrimRight(s, `\`)))%2 == 1
}

// expand replaces ${user.home} and ${NAME}, NAME a variable of the environment.
func expand(value string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(value, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", errors.New("${ without }")
		}
		v, ok := lookUp(name)
		if !ok {
			return "", fmt.Errorf("${%s} is neither ${user.home} nor a variable of the environment", name)
		}
		out.WriteString(v)
		value = after
	}
}

func lookUp(name string) (string, bool) {
	if name == "user.home" {
		home, err := os.UserHomeDir()
		return home, err == nil
	}
	return os.LookupEnv(strings.TrimPrefix(name, "env."))
}

// parse checks a value and brings it into its plain form: true or false, a number without a unit.
func (k Key) parse(value string) (string, error) {
	value = strings.TrimSpace(value)
	switch k.Kind {
	case Bool:
		switch strings.ToLower(value) {
		case "true", "yes", "on", "1":
			return "true", nil
		case "false", "no", "off", "0":
			return "false", nil
		}
		return "", errors.New("it must be true or false")
	case Int, Int64, Size, Millis, Seconds:
		return k.number(value)
	case Float:
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			return "", errors.New("it must be a number")
		}
	case Enum:
		for _, a := range k.Allowed {
			if strings.EqualFold(a, value) {
				return a, nil
			}
		}
		if value == k.Default {
			return value, nil
		}
		return "", fmt.Errorf("it must be one of %s", strings.Join(k.Allowed, ", "))
	case Text:
		if strings.ContainsRune(value, 0) {
			return "", errors.New("it must not contain a zero byte")
		}
	}
	return value, nil
}

func (k Key) number(value string) (string, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		n, err = k.withUnit(value)
	}
	least, most := k.Min, k.Max
	if most == 0 {
		least, most = math.MinInt64, math.MaxInt64
		if k.Kind == Int {
			least, most = math.MinInt32, math.MaxInt32
		}
	}
	if err != nil || n < least || n > most {
		return "", fmt.Errorf("it must be a whole number from %d to %d%s", least, most, k.unit())
	}
	return strconv.FormatInt(n, 10), nil
}

func (k Key) unit() string {
	switch k.Kind {
	case Size:
		return " (bytes; 64k, 16m and 1g are understood)"
	case Millis:
		return " (milliseconds; 500ms, 10s and 2h are understood)"
	case Seconds:
		return " (seconds; 10s, 5m and 2h are understood)"
	}
	return ""
}

var errUnit = errors.New("no number")

func (k Key) withUnit(value string) (int64, error) {
	switch k.Kind {
	case Millis, Seconds:
		d, err := time.ParseDuration(value)
		if err != nil {
			return 0, err
		}
		unit := time.Millisecond
		if k.Kind == Seconds {
			unit = time.Second
		}
		if d%unit != 0 {
			return 0, errUnit
		}
		return int64(d / unit), nil
	case Size:
		lower := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(value), "b"), "i")
		if lower == "" {
			return 0, errUnit
		}
		shift := strings.IndexByte("kmgt", lower[len(lower)-1])
		if shift < 0 {
			return 0, errUnit
		}
		n, err := strconv.ParseInt(strings.TrimSpace(lower[:len(lower)-1]), 10, 64)
		bits := 10 * (shift + 1)
		if err != nil || n < 0 || n > math.MaxInt64>>bits {
			return 0, errUnit
		}
		return n << bits, nil
	}
	return 0, errUnit
}
