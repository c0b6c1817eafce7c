package remoting

import (
	"errors"
	"io"
	"net"
)

const defaultTransport = TransportNet

func newNetpollTransport(*Server, net.Listener) (transport, error) {
	return nil, errors.New("remoting: netpoll does not run on Windows; use the transport \"net\"")
}

// SetTransportLog does nothing here: the standard library writes no log.
func SetTransportLog(io.Writer) {}
