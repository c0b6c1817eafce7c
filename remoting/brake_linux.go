package remoting

import "golang.org/x/sys/unix"

// canBrake says whether a socket can be kept from receiving.
const canBrake = true

// noPayload is a packet filter that takes only segments without payload: their
// whole length is that of the TCP header, whose upper half of byte 12 counts
// words. Acknowledgements and resets pass, so writing goes on and a peer that
// dies is noticed.
var noPayload = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 12},
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf0},
	{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 2},
	{Code: unix.BPF_MISC | unix.BPF_TAX},
	{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X, Jt: 0, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// brake keeps a socket from receiving, or lets it receive again. What the
// filter does not take is lost to the kernel, so the peer waits and sends it
// again: the flow control that netpoll does not leave to TCP, because it always
// reads.
func brake(fd int, on bool) error {
	if !on {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(noPayload)), Filter: &noPayload[0]})
}
