package store

import (
	"fmt"

	"github.com/merlinmq/merlin/message"
)

// A recovery reads and checks records on one goroutine and puts what they lead
// to into queues and index on another.

// found is what the views must know of a record that was read.
type found struct {
	dispatch
	topic      *topic
	properties message.Properties // a copy, of the chunk
	wantKeys   bool               // the index lacks it
	coded      bool               // tagCode is set and is not that of the tags
	damage     bool               // a damaged range of the log lies before it
}

const (
	recoverChunk = 512       // records that are handed over together, at most
	recoverText  = 256 << 10 // bytes of properties after which no more are waited for
	// recoverAhead is how many chunks the reading may be ahead: enough for the
	// time in which an index file is made. All of them, and those to be filled
	// again, take about 30 MB at most.
	recoverAhead = 32
)

// foundChunk is what is handed over.
type foundChunk struct {
	list []found
	text []byte // their properties
}

// recoveryPutter puts records in the order in which they are added.
type recoveryPutter struct {
	chunk  foundChunk
	chunks chan foundChunk
	spare  chan foundChunk // emptied ones, to be filled again
	failed chan struct{}
	done   chan struct{}
	err    error // why it ended early; read after failed or done is closed
}

func (r *recovery) startPutter() *recoveryPutter {
	p := &recoveryPutter{
		chunks: make(chan foundChunk, recoverAhead), spare: make(chan foundChunk, recoverAhead+1),
		failed: make(chan struct{}), done: make(chan struct{}),
	}
	go func() {
		defer close(p.done)
		keys := make([]dispatch, 0, recoverChunk)
		for chunk := range p.chunks {
			if p.err == nil {
				if p.err = r.putChunk(chunk.list, keys); p.err != nil {
					close(p.failed)
				}
			}
			clear(chunk.list)
			select {
			case p.spare <- foundChunk{chunk.list[:0], chunk.text[:0]}:
			default:
			}
		}
	}()
	return p
}

// add takes in one record; its properties are copied. An error is that of an
// earlier one.
func (p *recoveryPutter) add(d found, properties message.Properties) error {
	c := &p.chunk
	if c.list == nil {
		select {
		case *c = <-p.spare:
		default:
			c.list = make([]found, 0, recoverChunk)
		}
	}
	from := len(c.text)
	c.text = append(c.text, properties...)
	d.properties = c.text[from:]
	if c.list = append(c.list, d); len(c.list) < recoverChunk && len(c.text) < recoverText {
		return nil
	}
	select {
	case p.chunks <- *c:
		*c = foundChunk{}
		return nil
	case <-p.failed:
		return p.err
	}
}

// end waits until all is put and returns the first error.
func (p *recoveryPutter) end() error {
	if len(p.chunk.list) > 0 {
		p.chunks <- p.chunk
	}
	close(p.chunks)
	<-p.done
	return p.err
}

func (r *recovery) putChunk(chunk []found, keys []dispatch) error {
	for i := range chunk {
		d := &chunk[i]
		known := readProperties(d.properties)
		if !d.coded {
			d.tagCode = message.TagCode(known.Tags)
		}
		if d.wantKeys {
			d.addKeys(d.topic, &known)
		}
		if d.queue != nil {
			if err := r.putEntry(d); err != nil {
				return err
			}
		}
		if d.keyCount > 0 {
			keys = append(keys, d.dispatch)
		}
	}
	list := r.s.keysOf(keys)
	if _, err := r.s.index.PutKeys(list); err != nil && len(list) > 0 {
		return fmt.Errorf("store: put the keys of the records from %d on: %w", list[0].Position, err)
	}
	return nil
}
