package schedule

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// Handle is what a recall names: Apache's recall handle taken apart.
type Handle struct {
	Topic  string
	Broker string
	Time   int64 // Deferred.Handle
	Unique string
}

const handleVersion = "v1"

// String returns the handle as clients get it.
func (h Handle) String() string {
	return base64.URLEncoding.EncodeToString(fmt.Appendf(nil, "%s %s %s %d %s", handleVersion, h.Topic, h.Broker, h.Time, h.Unique))
}

// ParseHandle takes a handle apart. It fails for what String cannot have made.
func ParseHandle(text string) (Handle, error) {
	raw, err := base64.URLEncoding.DecodeString(text)
	if err != nil {
		return Handle{}, fmt.Errorf("it is not Base64: %w", err)
	}
	parts := strings.Split(string(raw), " ")
	if len(parts) != 5 || parts[0] != handleVersion || parts[1] == "" || parts[2] == "" || parts[4] == "" {
		return Handle{}, fmt.Errorf("it does not hold what a handle of version %s holds", handleVersion)
	}
	at, err := strconv.ParseInt(parts[3], 10, 64)
	if err != nil {
		return Handle{}, fmt.Errorf("its time %q is no number", clip([]byte(parts[3])))
	}
	return Handle{Topic: parts[1], Broker: parts[2], Time: at, Unique: parts[4]}, nil
}
