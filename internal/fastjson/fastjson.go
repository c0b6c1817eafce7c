// Package fastjson reads and writes JSON as Apache RocketMQ's Java side does, which is not quite JSON.
//
// Written: members in alphabetical order, no white space, no HTML escaping, nil slices as [] and nil maps as {}
// (never null), nil pointers and members tagged omitempty left out, zero numbers and false kept, integer map keys
// bare ({0:"a"}) unless Standard is asked for, struct map keys as objects ({{"topic":"t"}:5}), floats with a point.
//
// Read: all of that, and what fastjson and rocketmq-client-go write beyond it: bare or quoted keys, objects as keys,
// numbers and booleans inside strings, enum names in any case or as ordinals, member names in any case, single quotes,
// raw control characters in strings, a comma before a closing bracket. Unknown members are skipped.
//
// Struct members are the exported fields, named by their `json:"name,omitempty" alias:"other"` tags.
// Decoding never panics and is bounded: nesting to MaxDepth, memory in proportion to the input. Both directions are
// safe for concurrent use; there is no shared state.
package fastjson

import "fmt"

// MaxDepth is how deep objects and lists may be nested.
const MaxDepth = 64

// Style chooses between the two shapes of a map with keys that are no strings.
type Style int

const (
	// Loose writes integer and object keys bare, as fastjson does by default.
	Loose Style = iota
	// Standard writes every key as a string, so that any JSON parser can read it.
	Standard
)

// Raw is a value whose text is passed through as it is. An empty Raw is written as null and, tagged omitempty, left out.
type Raw []byte

// Enum is a string type with a fixed list of names in the order of their ordinals. A decoded number becomes the name
// at that ordinal; a decoded text becomes the name it equals without regard to case, '_' and '-'; any other text is kept.
type Enum interface{ EnumNames() []string }

// Defaulter is a struct whose absent members have values other than zero. SetDefaults is called on the pointer before
// an object is decoded into it.
type Defaulter interface{ SetDefaults() }

// Error says where an input stopped making sense.
type Error struct {
	Offset int    // byte in the input
	Path   string // members that lead there, "" at the top
	Text   string // what is wrong
}

func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("JSON at byte %d: %s", e.Offset, e.Text)
	}
	return fmt.Sprintf("JSON at byte %d, member %s: %s", e.Offset, e.Path, e.Text)
}
