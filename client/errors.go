package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/merlinmq/merlin/remoting"
)

// ServerError is an answer with a code that is not success.
type ServerError struct {
	Addr   string // of the server that answered
	Op     string // what was asked for, as "create topic orders"
	Code   int    // remoting.Resp…
	Remark string // the server's words
}

// Error implements error.
func (e *ServerError) Error() string {
	remark := strings.TrimSpace(e.Remark)
	if remark == "" {
		remark = "no remark"
	}
	return fmt.Sprintf("%s: %s answered %s (code %d): %s", e.Op, e.Addr, remoting.ResponseName(e.Code), e.Code, remark)
}

// UnreachableError says that a server cannot be connected to or does not
// answer.
type UnreachableError struct {
	Role string // "name server" or "broker"
	Addr string
	Err  error
}

// Error implements error.
func (e *UnreachableError) Error() string {
	hint := "is it running, and is --namesrv right?"
	if e.Role != roleNameServer {
		hint = "the address comes from the name server; if it is wrong for this machine, set brokerIP1 on the broker"
	}
	cause := e.Err
	// The layers of a failed dial repeat the address.
	if op := (*net.OpError)(nil); errors.As(cause, &op) {
		cause = op.Err
		if sys := (*os.SyscallError)(nil); errors.As(cause, &sys) {
			cause = sys.Err
		}
	} else if errors.Is(cause, context.DeadlineExceeded) {
		cause = errors.New("no answer in time")
	}
	return fmt.Sprintf("%s %s cannot be reached: %v (%s)", e.Role, e.Addr, cause, hint)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

const (
	roleNameServer = "name server"
	roleBroker     = "broker"
)

// ErrNotFound says that a message, or what else was looked for, is not there.
var ErrNotFound = errors.New("not found")

// CodeOf returns the code of a server's refusal, and false for other errors.
func CodeOf(err error) (int, bool) {
	var e *ServerError
	if errors.As(err, &e) {
		return e.Code, true
	}
	return 0, false
}

// isCode tells whether err is a refusal with one of the codes.
func isCode(err error, codes ...int) bool {
	code, is := CodeOf(err)
	for _, c := range codes {
		if is && c == code {
			return true
		}
	}
	return false
}
