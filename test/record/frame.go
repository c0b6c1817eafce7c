package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// frame is one line of a conversation file.
type frame struct {
	Link        string            `json:"link"`                  // who talks with whom, the asker first: client-namesrv, client-broker, broker-namesrv
	Conn        int               `json:"conn"`                  // number of the connection within the file
	Dir         string            `json:"dir"`                   // "in": towards the side that was dialled, "out": from it
	Kind        string            `json:"kind"`                  // request, oneway, response
	Code        int               `json:"code"`                  // as it stands in the header
	RequestCode int               `json:"requestCode,omitempty"` // of a response: the code that it answers
	Opaque      int32             `json:"opaque"`
	Flag        int32             `json:"flag"`
	Version     int               `json:"version"`
	Language    string            `json:"language"`
	Encoding    string            `json:"encoding"` // JSON or ROCKETMQ
	Remark      string            `json:"remark,omitempty"`
	Ext         map[string]string `json:"ext"`
	BodySize    int               `json:"bodySize"`
	Body        json.RawMessage   `json:"body,omitempty"` // only a body that is standard JSON
	Hex         []byte            `json:"-"`
	HexText     string            `json:"hex"` // the whole frame with its length
}

var languages = []string{"JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST", "NODE_JS"}

// decode reads a whole frame, its length included. It is written apart from the product's decoder so that the two check each other.
func decode(raw []byte) (frame, error) {
	f := frame{Hex: raw, HexText: fmt.Sprintf("%x", raw), Ext: map[string]string{}}
	if len(raw) < 8 {
		return f, errors.New("shorter than the two length words")
	}
	word := binary.BigEndian.Uint32(raw[4:])
	size := int(word & 0xffffff)
	if 8+size > len(raw) {
		return f, fmt.Errorf("header of %d bytes in a frame of %d", size, len(raw))
	}
	header, body := raw[8:8+size], raw[8+size:]
	f.BodySize = len(body)
	if json.Valid(body) {
		f.Body = body
	}
	var err error
	switch word >> 24 {
	case 0:
		f.Encoding = "JSON"
		err = f.text(header)
	case 1:
		f.Encoding = "ROCKETMQ"
		err = f.binary(header)
	default:
		err = fmt.Errorf("unknown header encoding %d", word>>24)
	}
	switch {
	case f.Flag&1 != 0:
		f.Kind = "response"
	case f.Flag&2 != 0:
		f.Kind = "oneway"
	default:
		f.Kind = "request"
	}
	return f, err
}

func (f *frame) text(header []byte) error {
	var h struct {
		Code      int               `json:"code"`
		Language  string            `json:"language"`
		Version   int               `json:"version"`
		Opaque    int32             `json:"opaque"`
		Flag      int32             `json:"flag"`
		Remark    string            `json:"remark"`
		ExtFields map[string]string `json:"extFields"`
	}
	if err := json.Unmarshal(header, &h); err != nil {
		return err
	}
	f.Code, f.Language, f.Version, f.Opaque, f.Flag, f.Remark = h.Code, h.Language, h.Version, h.Opaque, h.Flag, h.Remark
	if h.ExtFields != nil {
		f.Ext = h.ExtFields
	}
	return nil
}

func (f *frame) binary(h []byte) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("a length in the binary header points outside")
		}
	}()
	f.Code = int(int16(binary.BigEndian.Uint16(h)))
	f.Language = languages[h[2]]
	f.Version = int(int16(binary.BigEndian.Uint16(h[3:])))
	f.Opaque = int32(binary.BigEndian.Uint32(h[5:]))
	f.Flag = int32(binary.BigEndian.Uint32(h[9:]))
	n := int(binary.BigEndian.Uint32(h[13:]))
	f.Remark = string(h[17 : 17+n])
	h = h[17+n:]
	n = int(binary.BigEndian.Uint32(h))
	h = h[4 : 4+n]
	for len(h) > 0 {
		n = int(binary.BigEndian.Uint16(h))
		key := string(h[2 : 2+n])
		h = h[2+n:]
		n = int(binary.BigEndian.Uint32(h))
		f.Ext[key] = string(h[4 : 4+n])
		h = h[4+n:]
	}
	return nil
}
