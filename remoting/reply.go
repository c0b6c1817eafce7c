package remoting

import "strconv"

// Pair is one header field to be sent.
type Pair struct{ Key, Value string }

// Fields are header fields to be sent, in order.
type Fields []Pair

// Str, Int and Bool append a field; the wire knows strings only.
func (f *Fields) Str(key, value string) { *f = append(*f, Pair{key, value}) }

// Int is described at Str.
func (f *Fields) Int(key string, value int64) { f.Str(key, strconv.FormatInt(value, 10)) }

// Bool is described at Str.
func (f *Fields) Bool(key string, value bool) { f.Str(key, strconv.FormatBool(value)) }

// FixedFields are fields that are the same in many answers, encoded once.
type FixedFields struct{ json, binary []byte }

// Fixed encodes the fields for Writer.Fixed. It must not be changed afterwards.
func (f Fields) Fixed() *FixedFields {
	encode := func(encoding byte) []byte {
		h := header{encoding: encoding}
		for _, p := range f {
			h.str(p.Key, p.Value)
		}
		return h.ext
	}
	return &FixedFields{json: encode(EncodingJSON), binary: encode(EncodingBinary)}
}

// Response is an answer as a value, for everything that is not sent a hundred
// thousand times a second; a Writer is for the rest.
type Response struct {
	Code   int
	Remark string
	Fields Fields
	Body   []byte // copied when it is sent
}

// Writer writes one answer. It comes from Conn.Reply or Conn.Later, takes
// fields, remark and body in any order, sends with End, and is not used again
// after it. A Writer from Reply belongs to the Serve goroutine, and the
// connection has one: End it before the next Reply. It allocates nothing.
type Writer struct {
	c     *Conn
	late  bool // goes to the queue, not to the output of the running Serve
	drop  bool // the request wanted no answer
	head  header
	fixed []byte // of late ones: the frame as End makes it

	frame  int // where the frame begins in the output
	body   int // where BodyBuffer said the body begins; 0 before it was asked
	copied []byte
}

// Code replaces the code that Reply or Later was given.
func (w *Writer) Code(code int) *Writer { w.head.code = code; return w }

// Remark sets the sentence for the reader. A very long one is cut.
func (w *Writer) Remark(s string) *Writer {
	w.head.remark = s[:min(len(s), maxRemark)]
	return w
}

// Str adds a header field.
func (w *Writer) Str(key, value string) *Writer { w.head.str(key, value); return w }

// Bytes adds a header field whose value is at hand as bytes.
func (w *Writer) Bytes(key string, value []byte) *Writer { w.head.bytes(key, value); return w }

// Int adds a number as a header field.
func (w *Writer) Int(key string, value int64) *Writer { w.head.int(key, value); return w }

// Bool adds true or false as a header field.
func (w *Writer) Bool(key string, value bool) *Writer {
	if value {
		return w.Str(key, "true")
	}
	return w.Str(key, "false")
}

// Fields adds several fields.
func (w *Writer) Fields(fs Fields) *Writer {
	for _, f := range fs {
		w.head.str(f.Key, f.Value)
	}
	return w
}

// Fixed adds fields that were encoded before.
func (w *Writer) Fixed(f *FixedFields) *Writer { w.head.fixed(f); return w }

// Body sets the body. The bytes are copied by End and must hold until then.
func (w *Writer) Body(b []byte) *Writer { w.copied = b; return w }

// BodyBuffer returns the output itself, to append the body to it in place; the
// result of the appends goes to SetBody. The bytes that are in it already are
// other frames and must not be touched. Between the two calls nothing else may
// be done with the connection's Writer. Fields and remark, known only
// afterwards as a rule, may follow.
func (w *Writer) BodyBuffer() []byte {
	out := w.buffer()
	w.frame = len(*out)
	w.body = w.frame + w.c.headerGuess(w.head.encoding)
	*out = grow(*out, w.body-w.frame+int(w.c.bodyGuess.Load()))[:w.body]
	return *out
}

// SetBody takes back the buffer of BodyBuffer with the body appended to it.
func (w *Writer) SetBody(b []byte) *Writer {
	*w.buffer() = b
	return w
}

// End finishes the frame and puts it where the connection sends it from:
// the frames of a Serve leave together when it returns, those of Later as soon
// as the socket takes them. It returns ErrClosed where the connection is gone,
// ErrOutputFull where the peer does not read, ErrTooLarge where a frame cannot
// carry what was given; nobody is served by handling the first two.
//
// Where the output of one Serve grows past ServerOptions.OutputHigh, End of a
// Reply sends what is there and may wait for a slow reader: hold no lock.
func (w *Writer) End() error {
	if w.late {
		return w.endLate()
	}
	return w.endNow()
}

// Answer is Reply with a value: it writes the whole response at once.
func (c *Conn) Answer(r *Request, resp Response) error {
	return c.Reply(r, resp.Code).Remark(resp.Remark).Fields(resp.Fields).Body(resp.Body).End()
}

// AnswerLater is Later with a value.
func (c *Conn) AnswerLater(t Ticket, resp Response) error {
	return c.Later(t, resp.Code).Remark(resp.Remark).Fields(resp.Fields).Body(resp.Body).End()
}
