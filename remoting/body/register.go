package body

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/merlinmq/merlin/internal/fastjson"
)

// MaxInflated is how large a compressed registration may be when it is inflated. 100,000 topics take about 6 MB.
const MaxInflated = 64 << 20

// Versions at which the body of a registration changed.
const (
	versionOfWrapperBody = 37  // 3.0.11: before, the body is the bare topic table
	versionOfMappings    = 413 // 5.0.0: since, the compressed form ends with queue mappings
)

// RegisterBrokerBody is the body of REGISTER_BROKER.
type RegisterBrokerBody struct {
	FilterServerList []string                              `json:"filterServerList"`
	Topics           TopicConfigAndMappingSerializeWrapper `json:"topicConfigSerializeWrapper"`
}

// DecodeRegisterBroker reads the body of a registration sent by a broker of the given version, in any of its forms.
// The form is taken from the bytes, because Java brokers say compressed=false even when they compress. A missing body
// gives an empty one.
func DecodeRegisterBroker(data []byte, version int) (*RegisterBrokerBody, error) {
	b := &RegisterBrokerBody{}
	if len(data) == 0 {
		return b, nil
	}
	if data[0] == 0x78 {
		return b, b.inflate(data, version)
	}
	if version < versionOfWrapperBody && bytes.Contains(data, []byte("topicConfigTable")) && !bytes.Contains(data, []byte("topicConfigSerializeWrapper")) {
		return b, fastjson.Unmarshal(data, &b.Topics.TopicConfigSerializeWrapper)
	}
	return b, fastjson.Unmarshal(data, b)
}

// Compressed returns the deflated form of b, as a broker of the given version sends it.
func (b *RegisterBrokerBody) Compressed(version int) ([]byte, error) {
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	w := partWriter{to: z}
	w.part(Encode(b.Topics.DataVersion))
	names := sorted(b.Topics.TopicConfigTable)
	w.number(len(names))
	for _, n := range names {
		w.part([]byte(b.Topics.TopicConfigTable[n].Text()))
	}
	w.part(Encode(b.FilterServerList))
	if version >= versionOfMappings {
		mappings := sorted(b.Topics.TopicQueueMappingInfoMap)
		w.number(len(mappings))
		for _, n := range mappings {
			w.part(b.Topics.TopicQueueMappingInfoMap[n])
		}
	}
	if err := errors.Join(w.err, z.Close()); err != nil {
		return nil, fmt.Errorf("compressing a registration: %w", err)
	}
	return out.Bytes(), nil
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

type partWriter struct {
	to  io.Writer
	err error
}

func (w *partWriter) number(n int) {
	if w.err == nil {
		_, w.err = w.to.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
	}
}

func (w *partWriter) part(p []byte) {
	w.number(len(p))
	if w.err == nil {
		_, w.err = w.to.Write(p)
	}
}

func (b *RegisterBrokerBody) inflate(data []byte, version int) error {
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("compressed registration: %w", err)
	}
	r := partReader{from: io.LimitReader(z, MaxInflated)}
	if err := r.json(&b.Topics.DataVersion); err != nil {
		return fmt.Errorf("compressed registration, data version: %w", err)
	}
	b.Topics.TopicConfigTable = map[string]TopicConfig{}
	n, err := r.number()
	for i := 0; i < n && err == nil; i++ {
		var part []byte
		if part, err = r.part(); err != nil {
			break
		}
		var c TopicConfig
		if c, err = ParseTopicText(string(part)); err == nil {
			b.Topics.TopicConfigTable[c.TopicName] = c
		}
	}
	if err != nil {
		return fmt.Errorf("compressed registration, topics: %w", err)
	}
	if err := r.json(&b.FilterServerList); err != nil {
		return fmt.Errorf("compressed registration, filter servers: %w", err)
	}
	if version >= versionOfMappings {
		if err := b.inflateMappings(&r); err != nil {
			return fmt.Errorf("compressed registration, queue mappings: %w", err)
		}
	}
	if _, err := io.Copy(io.Discard, r.from); err != nil { // the checksum stands at the end
		return fmt.Errorf("compressed registration: %w", err)
	}
	return nil
}

func (b *RegisterBrokerBody) inflateMappings(r *partReader) error {
	n, err := r.number()
	if errors.Is(err, io.EOF) {
		return nil
	}
	b.Topics.TopicQueueMappingInfoMap = map[string]Raw{}
	for i := 0; i < n && err == nil; i++ {
		var part []byte
		if part, err = r.part(); err != nil {
			break
		}
		var of struct {
			Topic string `json:"topic"`
		}
		if err = fastjson.Unmarshal(part, &of); err == nil {
			b.Topics.TopicQueueMappingInfoMap[of.Topic] = part
		}
	}
	return err
}

type partReader struct{ from io.Reader }

func (r *partReader) number() (int, error) {
	var b [4]byte
	if _, err := io.ReadFull(r.from, b[:]); err != nil {
		return 0, err
	}
	n := int32(binary.BigEndian.Uint32(b[:]))
	if n < 0 {
		return 0, fmt.Errorf("a length is %d", n)
	}
	return int(n), nil
}

// part reads one length and what it announces; memory grows with what arrives and not with what was announced.
func (r *partReader) part() ([]byte, error) {
	n, err := r.number()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r.from, int64(n)); err != nil {
		return nil, fmt.Errorf("a part of %d bytes ends after %d: %w", n, b.Len(), io.ErrUnexpectedEOF)
	}
	return b.Bytes(), nil
}

func (r *partReader) json(v any) error {
	p, err := r.part()
	if err != nil {
		return err
	}
	return fastjson.Unmarshal(p, v)
}
