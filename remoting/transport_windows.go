package remoting

import (
	"errors"
	"net"
)

const defaultTransport = TransportNet

func newNetpollTransport(*Server, net.Listener) (transport, error) {
	return nil, errors.New("remoting: netpoll does not run on Windows; use the transport \"net\"")
}
