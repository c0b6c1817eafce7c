package bench

import (
	"encoding/binary"
	"strconv"
)

// Request codes that the load uses.
const (
	codePull           = 11
	codeCreateTopic    = 17
	codeBrokerConfig   = 26
	codeMaxOffset      = 30
	codeMinOffset      = 31
	codeHeartbeat      = 34
	codeEndTransaction = 37
	codeCreateGroup    = 200
	codeDeleteGroup    = 207
	codeSendV2         = 310
	codeSendBatch      = 320
	codeTopicConfig    = 351
	codePop            = 200050
	codeAck            = 200051
	codeBatchAck       = 200151
)

// Response codes that need telling apart.
const (
	ok                = 0
	flushDiskTimeout  = 10
	slaveNotAvailable = 11
	flushSlaveTimeout = 12
	topicNotExist     = 17
	pullNotFound      = 19
	pullRetry         = 20
	pullOffsetMoved   = 21
	popPollingFull    = 209
	popPollingTimeout = 210
)

// stored tells whether a send with this response code is in the server's log.
func stored(code int) bool {
	return code == ok || code == flushDiskTimeout || code == slaveNotAvailable || code == flushSlaveTimeout
}

// clientVersion is the ordinal of release 5.5.0: what the load says it is.
const clientVersion = 513

// requestWriter appends one frame with a JSON header to a buffer. Marks of
// places in the frame are taken with len(b) while it is being built.
type requestWriter struct {
	b     []byte
	start int
	ext   int // ext fields so far
}

// begin starts a frame at the end of b.
func (w *requestWriter) begin(b []byte, code int) {
	w.start, w.ext = len(b), 0
	w.b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	w.b = append(w.b, `{"code":`...)
	w.b = strconv.AppendInt(w.b, int64(code), 10)
	w.b = append(w.b, `,"extFields":{`...)
}

// open starts a field; its value is appended to w.b as it stands in JSON.
func (w *requestWriter) open(name string) {
	if w.ext > 0 {
		w.b = append(w.b, ',')
	}
	w.ext++
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, `":"`...)
}

func (w *requestWriter) close() { w.b = append(w.b, '"') }

// text writes a field whose value needs no escaping.
func (w *requestWriter) text(name, value string) {
	w.open(name)
	w.b = append(w.b, value...)
	w.close()
}

func (w *requestWriter) int(name string, value int64) {
	w.open(name)
	w.b = strconv.AppendInt(w.b, value, 10)
	w.close()
}

// end closes the header, appends the body and fills the lengths in. It
// returns the buffer and the place of the opaque's digits in it.
func (w *requestWriter) end(opaque int32, body []byte) (frames []byte, opaqueAt int) {
	w.b = append(w.b, `},"flag":0,"language":"GO","opaque":`...)
	opaqueAt = len(w.b)
	w.b = strconv.AppendInt(w.b, int64(opaque), 10)
	w.b = append(w.b, `,"serializeTypeCurrentRPC":"JSON","version":`...)
	w.b = strconv.AppendInt(w.b, clientVersion, 10)
	w.b = append(w.b, '}')
	header := len(w.b) - w.start - 8
	w.b = append(w.b, body...)
	binary.BigEndian.PutUint32(w.b[w.start:], uint32(len(w.b)-w.start-4))
	binary.BigEndian.PutUint32(w.b[w.start+4:], uint32(header)) // serialize type 0: JSON
	return w.b, opaqueAt
}

// appendEscaped appends a property string as JSON text.
func appendEscaped(dst []byte, props []byte) []byte {
	const hex = "0123456789abcdef"
	for _, c := range props {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// putDecimal writes v right-aligned into b, which must be as wide as v is.
func putDecimal(b []byte, v int64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
}

// putHex writes the low bits of v into all of b as upper-case hex.
func putHex(b []byte, v uint64) {
	const digits = "0123456789ABCDEF"
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = digits[v&15]
		v >>= 4
	}
}
