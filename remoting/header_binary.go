package remoting

import "encoding/binary"

const binaryFixed = 21 // bytes of a binary header without remark and fields

// binary reads a binary header:
//
//	code 2, language 1, version 2, opaque 4, flag 4,
//	remark length 4, remark, ext length 4, ext
//	ext: key length 2, key, value length 4, value, and so on to its end
func (d *Decoder) binary(h []byte, r *Request) error {
	first := len(d.fields)
	if len(h) < binaryFixed {
		return &HeaderError{Reason: "it is shorter than the fixed part of 21 bytes", At: len(h)}
	}
	r.Code = int(int16(binary.BigEndian.Uint16(h)))
	r.Language = h[2]
	if int(r.Language) >= len(languages) {
		r.Language = LangUnknown
	}
	r.Version = int(int16(binary.BigEndian.Uint16(h[3:])))
	r.Opaque = int32(binary.BigEndian.Uint32(h[5:]))
	r.Flag = int32(binary.BigEndian.Uint32(h[9:]))

	bad := func(at int, reason string) error {
		return &HeaderError{Reason: reason, At: at, Opaque: r.Opaque, HasOpaque: true, IsResponse: r.IsResponse()}
	}
	at := 13
	n := uint64(binary.BigEndian.Uint32(h[at:]))
	at += 4
	if n > uint64(len(h)-at-4) {
		return bad(at-4, "the remark is longer than the header")
	}
	if n > 0 {
		r.Remark = h[at : at+int(n)]
		at += int(n)
	}
	n = uint64(binary.BigEndian.Uint32(h[at:]))
	at += 4
	if n > uint64(len(h)-at) {
		return bad(at-4, "the fields are longer than the header")
	}
	end := at + int(n)
	for at < end {
		if d.full() {
			return bad(at, tooManyFields)
		}
		if end-at < 2 {
			return bad(at, "a field's key length is cut off")
		}
		k := int(int16(binary.BigEndian.Uint16(h[at:])))
		at += 2
		if k < 0 || k > end-at-4 {
			return bad(at-2, "a field's key is longer than the fields")
		}
		key := h[at : at+k]
		at += k
		v := uint64(binary.BigEndian.Uint32(h[at:]))
		at += 4
		if v > uint64(end-at) {
			return bad(at-4, "a field's value is longer than the fields")
		}
		d.fields = append(d.fields, Field{Key: key, Value: h[at : at+int(v)]})
		at += int(v)
	}
	r.Fields = d.fields[first:len(d.fields):len(d.fields)]
	return nil
}
