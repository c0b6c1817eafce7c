package fastjson

import (
	"reflect"
	"sort"
	"strings"
	"sync"
)

// member is one field of a struct as JSON sees it.
type member struct {
	name      string
	index     []int
	omitEmpty bool
}

// layout is what is known of a struct type: members in writing order and by name.
type layout struct {
	members []member
	exact   map[string]int // position in members
	folded  map[string]int // the same by fold(name), aliases included
}

// layouts has the types that were met: as many as the program has, so it needs
// no bound. What is in it does not change.
var layouts sync.Map // reflect.Type to *layout

func layoutOf(t reflect.Type) *layout {
	if y, ok := layouts.Load(t); ok {
		return y.(*layout)
	}
	y := &layout{exact: map[string]int{}, folded: map[string]int{}}
	aliases := map[string]string{}
	collect(t, nil, y, aliases)
	sort.Slice(y.members, func(i, j int) bool { return y.members[i].name < y.members[j].name })
	for i, m := range y.members {
		y.exact[m.name] = i
		y.folded[fold(m.name)] = i
	}
	for alias, name := range aliases {
		if _, taken := y.folded[fold(alias)]; !taken {
			y.folded[fold(alias)] = y.exact[name]
		}
	}
	layouts.Store(t, y)
	return y
}

func collect(t reflect.Type, at []int, y *layout, aliases map[string]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(append([]int(nil), at...), i)
		tag, tagged := f.Tag.Lookup("json")
		if f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct {
			collect(f.Type, index, y, aliases)
			continue
		}
		if !f.IsExported() || tag == "-" {
			continue
		}
		parts := strings.Split(tag, ",")
		m := member{name: parts[0], index: index}
		if m.name == "" {
			m.name = strings.ToLower(f.Name[:1]) + f.Name[1:]
		}
		for _, p := range parts[1:] {
			if p == "omitempty" {
				m.omitEmpty = true
			}
		}
		if alias := f.Tag.Get("alias"); alias != "" {
			aliases[alias] = m.name
		}
		y.members = append(y.members, m)
	}
}

func (y *layout) find(name string) (member, bool) {
	i, ok := y.exact[name]
	if !ok {
		i, ok = y.folded[fold(name)]
	}
	if !ok {
		return member{}, false
	}
	return y.members[i], true
}

// fold takes away what fastjson 1 ignores when it compares names.
func fold(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r == '_' || r == '-' {
			return -1
		}
		return r
	}, s))
}
