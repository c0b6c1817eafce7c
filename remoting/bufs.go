package remoting

import (
	"math/bits"
	"sync"
)

// Buffers come in powers of two from 512 bytes to 16 MiB and are kept between
// uses, so that neither a busy connection nor one with large frames feeds the
// garbage collector. The pools hold memory that nobody owns, no state.
const (
	minBufBits = 9
	maxBufBits = 24
)

var bufPools [maxBufBits - minBufBits + 1]sync.Pool

type buf struct{ b []byte }

// getBuf returns an empty buffer with room for n bytes or more.
func getBuf(n int) []byte {
	class := max(bits.Len(uint(max(n, 1)-1)), minBufBits)
	if class > maxBufBits {
		return make([]byte, 0, n)
	}
	if v, _ := bufPools[class-minBufBits].Get().(*buf); v != nil {
		b := v.b
		v.b = nil
		shells.Put(v)
		return b[:0]
	}
	return make([]byte, 0, 1<<class)
}

// putBuf gives a buffer back. Nothing may refer to it any more.
func putBuf(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if class < minBufBits || class > maxBufBits {
		return
	}
	v, _ := shells.Get().(*buf)
	if v == nil {
		v = new(buf)
	}
	v.b = b
	bufPools[class-minBufBits].Put(v)
}

var shells sync.Pool // of empty *buf, so that putting one back allocates nothing

// grow makes b n bytes longer, in a larger buffer where it must; what is in the
// new bytes is not said.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b[:len(b)+n]
	}
	bigger := getBuf(max(2*cap(b), len(b)+n))[:len(b)+n]
	copy(bigger, b)
	putBuf(b)
	return bigger
}
