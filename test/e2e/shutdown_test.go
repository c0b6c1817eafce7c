package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/merlinmq/merlin/test/harness"
)

// TestQuietShutdown ends a server at which consumers wait for messages. What ends because it was asked to is no news:
// one line says it, whoever is connected.
func TestQuietShutdown(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a server")
	}
	if harness.External() != "" {
		t.Skip("the server is not ours to end")
	}
	t.Parallel()
	s := harness.Start(t)
	w := newWorld(t, s.Namesrv)
	topic := w.topic("quiet", 4)
	p := w.producer("quiet")
	const consumers = 2
	var in inbox
	for i := range consumers {
		w.consume(fmt.Sprint("quiet", i), topic, "*", in.take)
	}
	w.send(p, topic, numbered("m", 0, 8)...)
	w.eventually("everybody has got everything", func() bool { return len(in.all()) == consumers*8 })
	time.Sleep(300 * time.Millisecond) // the next pulls wait at the broker now
	before := s.Output()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	said := strings.TrimSpace(strings.TrimPrefix(s.Output(), before))
	if strings.Contains(s.Output(), "level=WARN") || strings.Count(said, "\n") != 0 || !strings.Contains(said, "stopped in order") {
		t.Errorf("at a normal end the server said\n%s\nwant one line", said)
	}
}
