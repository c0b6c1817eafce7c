package fastjson

import (
	"encoding/base64"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Unmarshal decodes data into the value that v points to. Members that are absent or null keep their default
// (Defaulter) or stay as they are. What it returns is an *Error, and v then holds what was read so far.
func Unmarshal(data []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return &Error{Text: "decoding needs a pointer to write to"}
	}
	d := decoder{scanner: scanner{data: data}, budget: 16*len(data) + 1<<16}
	if err := d.value(p.Elem(), 0); err != nil {
		return err
	}
	if d.peek() != 0 || d.pos < len(d.data) {
		return d.fail("text follows after the end: " + d.found())
	}
	return nil
}

type decoder struct {
	scanner
	budget int // bytes of elements that may still be allocated
}

func (d *decoder) charge(n uintptr) error {
	d.budget -= int(n)
	if d.budget < 0 {
		return d.fail("more elements than the size of the input accounts for")
	}
	return nil
}

// within adds the member's name to an error that came from below it.
func within(name string, err error) error {
	var e *Error
	if err == nil || !errors.As(err, &e) {
		return err
	}
	if len(name) > 64 {
		name = name[:64]
	}
	if e.Path == "" {
		e.Path = name
	} else if len(e.Path) < 512 {
		e.Path = name + "." + e.Path
	}
	return e
}

func (d *decoder) value(v reflect.Value, depth int) error {
	if depth > MaxDepth {
		return d.fail("nested too deep")
	}
	c := d.peek()
	if v.Type() == rawType {
		start := d.pos
		if err := d.skip(depth); err != nil {
			return err
		}
		v.SetBytes(append([]byte(nil), d.data[start:d.pos]...))
		return nil
	}
	if c == 'n' && d.null() {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if err := d.charge(v.Type().Elem().Size()); err != nil {
			return err
		}
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(v.Elem(), depth+1)
	case reflect.Struct:
		return d.object(v, depth)
	case reflect.Map:
		return d.table(v, depth)
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			return d.list(v, depth)
		}
	}
	if c == '{' || c == '[' {
		return d.fail("expected " + describe(v.Kind()) + ", found " + d.found())
	}
	at := d.pos
	text, quoted, err := d.scalar()
	if err != nil {
		return err
	}
	if quoted && text == "" && v.Kind() != reflect.String {
		return nil // fastjson takes an empty string for no number
	}
	if want := setScalar(v, text, quoted); want != "" {
		return &Error{Offset: at, Text: "expected " + want + ", found " + strconv.Quote(clip(text))}
	}
	return nil
}

// null consumes the literal null if it stands here.
func (d *decoder) null() bool {
	back := d.pos
	if w, err := d.word(); err == nil && w == "null" {
		return true
	}
	d.pos = back
	return false
}

func clip(s string) string {
	if len(s) > 40 {
		return strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}

func describe(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "base64 text"
	}
	return "a number"
}

// setScalar puts text into v and returns "" or what v wanted instead.
func setScalar(v reflect.Value, text string, quoted bool) string {
	switch v.Kind() {
	case reflect.String:
		if e, ok := v.Interface().(Enum); ok {
			text = enumName(e.EnumNames(), text)
		}
		v.SetString(text)
	case reflect.Bool:
		switch strings.ToLower(text) {
		case "true", "1":
			v.SetBool(true)
		case "false", "0":
			v.SetBool(false)
		default:
			return "true or false"
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, ok := parseInt(text)
		if !ok || v.OverflowInt(n) {
			return "an integer of " + strconv.Itoa(v.Type().Bits()) + " bits"
		}
		v.SetInt(n)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return "a number"
		}
		v.SetFloat(f)
	case reflect.Slice:
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil || !quoted {
			return "base64 text"
		}
		v.SetBytes(b)
	default:
		return "something that fits a " + v.Type().String()
	}
	return ""
}

// parseInt reads an integer, also written 5.0 or 1e3.
func parseInt(text string) (int64, bool) {
	text = strings.TrimSpace(text)
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil {
		return n, true
	}
	if errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

func enumName(names []string, text string) string {
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(names) {
		return names[n]
	}
	want := fold(text)
	for _, n := range names {
		if fold(n) == want {
			return n
		}
	}
	return text
}

func (d *decoder) object(v reflect.Value, depth int) error {
	if v.CanAddr() {
		if f, ok := v.Addr().Interface().(Defaulter); ok {
			f.SetDefaults()
		}
	}
	more, err := d.open('{', '}')
	layout := layoutOf(v.Type())
	for more && err == nil {
		if c := d.peek(); c == '{' || c == '[' {
			return d.fail("expected a member's name, found " + d.found())
		}
		var name string
		if name, _, err = d.scalar(); err != nil {
			return err
		}
		if err = d.expect(':'); err != nil {
			return within(name, err)
		}
		m, known := layout.find(name)
		if known {
			err = d.value(v.FieldByIndex(m.index), depth+1)
		} else {
			err = d.skip(depth + 1)
		}
		if err != nil {
			return within(name, err)
		}
		more, err = d.more('}')
	}
	return err
}

func (d *decoder) list(v reflect.Value, depth int) error {
	elem := v.Type().Elem()
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	more, err := d.open('[', ']')
	for i := 0; more && err == nil; i++ {
		if err = d.charge(elem.Size()); err != nil {
			return err
		}
		if i == v.Cap() {
			v.Grow(i/2 + 4)
		}
		v.SetLen(i + 1)
		v.Index(i).SetZero()
		if err = d.value(v.Index(i), depth+1); err != nil {
			return within(strconv.Itoa(i), err)
		}
		more, err = d.more(']')
	}
	return err
}

func (d *decoder) table(v reflect.Value, depth int) error {
	t := v.Type()
	v.Set(reflect.MakeMap(t))
	more, err := d.open('{', '}')
	for more && err == nil {
		if err = d.charge(t.Key().Size() + t.Elem().Size()); err != nil {
			return err
		}
		key := reflect.New(t.Key()).Elem()
		start := d.pos
		if err = d.key(key, depth); err != nil {
			return err
		}
		name := string(d.data[start:d.pos])
		if err = d.expect(':'); err != nil {
			return within(name, err)
		}
		elem := reflect.New(t.Elem()).Elem()
		if err = d.value(elem, depth+1); err != nil {
			return within(name, err)
		}
		v.SetMapIndex(key, elem)
		more, err = d.more('}')
	}
	return err
}

// key reads a map's key: text, number, or object, each bare or inside a string.
func (d *decoder) key(v reflect.Value, depth int) error {
	c := d.peek()
	start := d.pos
	if v.Kind() == reflect.Struct {
		if c == '{' {
			return d.value(v, depth+1)
		}
		text, _, err := d.scalar()
		if err != nil {
			return err
		}
		inner := decoder{scanner: scanner{data: []byte(text)}, budget: d.budget}
		if err := inner.object(v, depth+1); err != nil {
			return &Error{Offset: start, Text: "a key is no object: " + strconv.Quote(clip(text))}
		}
		return nil
	}
	if c == '{' || c == '[' {
		return d.fail("expected a key that is " + describe(v.Kind()) + ", found " + d.found())
	}
	text, quoted, err := d.scalar()
	if err != nil {
		return err
	}
	if want := setScalar(v, text, quoted); want != "" {
		return &Error{Offset: start, Text: "expected a key that is " + want + ", found " + strconv.Quote(clip(text))}
	}
	return nil
}
