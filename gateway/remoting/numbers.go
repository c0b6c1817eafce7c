package gateway

import (
	"fmt"

	"github.com/merlinmq/merlin/remoting"
)

// int64Of reads a number of a header field; an empty field is 0, as if it were
// missing.
func int64Of(v []byte) (int64, error) {
	if len(v) == 0 {
		return 0, nil
	}
	n, ok := remoting.ParseInt(v)
	if !ok {
		return 0, fmt.Errorf("%q is not a whole number", clip(v))
	}
	return n, nil
}

func int32Of(v []byte) (int32, error) {
	if len(v) == 1 && v[0]-'0' <= 9 {
		return int32(v[0] - '0'), nil // what most fields hold
	}
	n, err := int64Of(v)
	if err == nil && int64(int32(n)) != n {
		return 0, fmt.Errorf("%q does not fit 32 bits", clip(v))
	}
	return int32(n), err
}

// boolOf reads a header field as Java does: whatever is not true is false.
func boolOf(v []byte) bool {
	return len(v) == 4 && v[0]|0x20 == 't' && v[1]|0x20 == 'r' && v[2]|0x20 == 'u' && v[3]|0x20 == 'e'
}

func clip(v []byte) []byte { return v[:min(len(v), 64)] }
