package body

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Property is one line of a properties text.
type Property struct{ Key, Value string }

// ParseProperties reads Java properties text, the body of the codes that carry configuration. Keys end at '=', ':' or
// white space; '#' and '!' begin comments; a backslash escapes and continues lines. A key given twice is there twice.
func ParseProperties(text []byte) ([]Property, error) {
	var list []Property
	lines := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' })
	for i := 0; i < len(lines); i++ {
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		for continues(line) && i+1 < len(lines) {
			i++
			line = line[:len(line)-1] + strings.TrimLeft(lines[i], " \t\f")
		}
		key, value := splitProperty(line)
		k, err := unescapeProperty(key)
		if err != nil {
			return nil, err
		}
		v, err := unescapeProperty(value)
		if err != nil {
			return nil, err
		}
		list = append(list, Property{k, v})
	}
	return list, nil
}

func continues(line string) bool {
	n := len(line) - len(strings.TrimRight(line, `\`))
	return n%2 == 1
}

func splitProperty(line string) (key, value string) {
	end := len(line)
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' {
			i++
			continue
		}
		if strings.IndexByte("=: \t\f", line[i]) >= 0 {
			end = i
			break
		}
	}
	rest := strings.TrimLeft(line[end:], " \t\f")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	return line[:end], rest
}

func unescapeProperty(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	var pending rune // first half of a surrogate pair
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '\\' || i+1 == len(s) {
			if c != '\\' {
				b.WriteByte(c)
			}
			continue
		}
		i++
		if s[i] != 'u' {
			if j := strings.IndexByte("ntrf", s[i]); j >= 0 {
				b.WriteByte("\n\t\r\f"[j])
			} else {
				b.WriteByte(s[i])
			}
			continue
		}
		if i+4 >= len(s) {
			return "", fmt.Errorf("properties text: %q ends inside a \\u escape", clip(s))
		}
		n, err := strconv.ParseUint(s[i+1:i+5], 16, 16)
		if err != nil {
			return "", fmt.Errorf("properties text: %q has a \\u escape without four hexadecimal digits", clip(s))
		}
		i += 4
		r := rune(n)
		switch {
		case pending != 0:
			b.WriteRune(utf16.DecodeRune(pending, r))
			pending = 0
		case utf16.IsSurrogate(r):
			pending = r
		default:
			b.WriteRune(r)
		}
	}
	return b.String(), nil
}

// EncodeProperties writes properties text, one line each, as tools of Apache's read it.
func EncodeProperties(list []Property) []byte {
	var b []byte
	for _, p := range list {
		b = appendEscaped(b, p.Key, true)
		b = append(b, '=')
		b = append(appendEscaped(b, p.Value, false), '\n')
	}
	return b
}

func appendEscaped(b []byte, s string, key bool) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\\', key && strings.IndexByte("=: #!", c) >= 0, !key && i == 0 && c == ' ':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return b
}
