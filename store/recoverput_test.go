package store

import (
	"testing"
	"unsafe"

	"github.com/merlinmq/merlin/message"
)

// TestRecoveryHandsOverInTime: what a recovery holds is bounded, whatever the
// records look like.
func TestRecoveryHandsOverInTime(t *testing.T) {
	for _, size := range []int{0, 100, 3000, message.MaxPropertiesSize} {
		p := &recoveryPutter{chunks: make(chan foundChunk, recoverAhead), spare: make(chan foundChunk, recoverAhead+1), failed: make(chan struct{})}
		text := make(message.Properties, size)
		added := 0
		for ; len(p.chunks) == 0; added++ {
			if err := p.add(found{}, text); err != nil {
				t.Fatal(err)
			}
		}
		c := <-p.chunks
		bytes := cap(c.text) + cap(c.list)*int(unsafe.Sizeof(found{}))
		if len(c.list) != added || added > recoverChunk || (2*recoverAhead+2)*bytes > 64<<20 || len(p.chunk.list) != 0 {
			t.Errorf("properties of %d bytes: %d records added, %d handed over, in %d bytes", size, added, len(c.list), bytes)
		}
		for i := range c.list {
			if len(c.list[i].properties) != size {
				t.Errorf("record %d has %d bytes of properties, want %d", i, len(c.list[i].properties), size)
			}
		}
	}
}
