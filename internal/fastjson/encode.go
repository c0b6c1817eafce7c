package fastjson

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"sort"
	"strconv"
	"unicode/utf8"
)

// Marshal returns v as JSON. It fails only for types that JSON cannot hold, which is a mistake of the program and not
// of its input.
func Marshal(v any, s Style) ([]byte, error) { return Append(nil, v, s) }

// Append appends v as JSON to dst.
func Append(dst []byte, v any, s Style) ([]byte, error) {
	e := encoder{out: dst, style: s}
	if err := e.value(reflect.ValueOf(v), 0); err != nil {
		return dst, err
	}
	return e.out, nil
}

type encoder struct {
	out   []byte
	style Style
}

var rawType = reflect.TypeFor[Raw]()

func (e *encoder) value(v reflect.Value, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("fastjson: %s is nested deeper than %d", v.Type(), MaxDepth)
	}
	switch v.Kind() {
	case reflect.Invalid:
		e.out = append(e.out, "null"...)
	case reflect.Bool:
		e.out = strconv.AppendBool(e.out, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.out = strconv.AppendInt(e.out, v.Int(), 10)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		e.out = strconv.AppendUint(e.out, v.Uint(), 10)
	case reflect.Float32, reflect.Float64:
		e.out = appendFloat(e.out, v.Float())
	case reflect.String:
		e.out = appendString(e.out, v.String())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			e.out = append(e.out, "null"...)
			return nil
		}
		return e.value(v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		return e.list(v, depth)
	case reflect.Map:
		return e.table(v, depth)
	case reflect.Struct:
		return e.object(v, depth)
	default:
		return fmt.Errorf("fastjson: a %s has no JSON form", v.Type())
	}
	return nil
}

func (e *encoder) list(v reflect.Value, depth int) error {
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
		switch {
		case v.Type() != rawType:
			e.out = append(e.out, '"')
			e.out = base64.StdEncoding.AppendEncode(e.out, v.Bytes())
			e.out = append(e.out, '"')
		case v.Len() == 0:
			e.out = append(e.out, "null"...)
		default:
			e.out = append(e.out, v.Bytes()...)
		}
		return nil
	}
	e.out = append(e.out, '[')
	for i := range v.Len() {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		if err := e.value(v.Index(i), depth+1); err != nil {
			return err
		}
	}
	e.out = append(e.out, ']')
	return nil
}

func (e *encoder) object(v reflect.Value, depth int) error {
	e.out = append(e.out, '{')
	first := true
	for _, m := range layoutOf(v.Type()).members {
		f := v.FieldByIndex(m.index)
		if (f.Kind() == reflect.Pointer || f.Kind() == reflect.Interface) && f.IsNil() || m.omitEmpty && empty(f) {
			continue
		}
		if !first {
			e.out = append(e.out, ',')
		}
		first = false
		e.out = appendString(e.out, m.name)
		e.out = append(e.out, ':')
		if err := e.value(f, depth+1); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	return nil
}

// empty is what omitempty leaves out. A list or map that is there but empty is written, as Java writes it.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice:
		return v.IsNil() || v.Type() == rawType && v.Len() == 0
	case reflect.Map:
		return v.IsNil()
	}
	return v.IsZero()
}

func (e *encoder) table(v reflect.Value, depth int) error {
	type entry struct {
		key   string
		num   int64
		value reflect.Value
	}
	kind := v.Type().Key().Kind()
	entries := make([]entry, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		n := entry{value: it.Value()}
		switch {
		case kind == reflect.String:
			n.key = string(appendString(nil, it.Key().String()))
		case it.Key().CanInt():
			n.num = it.Key().Int()
			n.key = strconv.FormatInt(n.num, 10)
			if e.style == Standard {
				n.key = `"` + n.key + `"`
			}
		case kind == reflect.Struct:
			k := encoder{style: e.style}
			if err := k.value(it.Key(), depth+1); err != nil {
				return err
			}
			n.key = string(k.out)
			if e.style == Standard {
				n.key = string(appendString(nil, n.key))
			}
		default:
			return fmt.Errorf("fastjson: a %s has no JSON form: its keys are neither strings, integers nor structs", v.Type())
		}
		entries = append(entries, n)
	}
	sort.Slice(entries, func(i, j int) bool {
		if entries[i].num != entries[j].num {
			return entries[i].num < entries[j].num
		}
		return entries[i].key < entries[j].key
	})
	e.out = append(e.out, '{')
	for i, n := range entries {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		e.out = append(e.out, n.key...)
		e.out = append(e.out, ':')
		if err := e.value(n.value, depth+1); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	return nil
}

// appendFloat writes 1 as 1.0, as Java does. What is no number is written as null, as fastjson does.
func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.AppendFloat(dst, f, 'f', 1, 64)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

const hexDigits = "0123456789abcdef"

// appendString quotes s and escapes what JSON demands, nothing else. Bytes that are no UTF-8 become U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			dst = appendASCII(dst, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		dst = utf8.AppendRune(dst, r)
		i += n
	}
	return append(dst, '"')
}

func appendASCII(dst []byte, c byte) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c == '\n':
		return append(dst, '\\', 'n')
	case c == '\r':
		return append(dst, '\\', 'r')
	case c == '\t':
		return append(dst, '\\', 't')
	case c < 0x20 || c == 0x7f:
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
	return append(dst, c)
}
