package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"

	"github.com/merlinmq/merlin/client"
	"github.com/merlinmq/merlin/test/harness"
)

// merlin runs the command line tool and returns what it prints.
func (w *world) merlin(args ...string) (string, error) {
	w.t.Helper()
	cmd := exec.Command(harness.Build(w.t), append(args, "--namesrv", strings.Join(w.ns, ";"))...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("merlin %s: %w: %s", strings.Join(args, " "), err, complaint.String())
	}
	return out.String(), nil
}

// merlinJSON runs the tool with --json.
func (w *world) merlinJSON(v any, args ...string) error {
	w.t.Helper()
	text, err := w.merlin(append(args, "--json")...)
	if err == nil {
		err = json.Unmarshal([]byte(text), v)
	}
	return err
}

type shownLetters struct {
	Letters []struct {
		Offset    int64
		Topic     string
		UniqueKey string `json:"unique_key"`
		Keys      string
		Reason    string
		Limit     int
		Retries   int
		Attempts  []struct {
			Time   time.Time
			Client string
		}
	}
	Next string
}

// metrics returns what the server tells a monitor.
func metrics(t *testing.T, s *harness.Server) string {
	t.Helper()
	r, err := http.Get("http://" + s.HTTP + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r.Body)
	if err = errors.Join(err, r.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDeadLetters: a consumer fails until its messages are dead letters, which
// tell why, when and at which client; they are sent again and consumed.
func TestDeadLetters(t *testing.T) {
	if testing.Short() || harness.External() != "" {
		t.Skip("starts a server of our own")
	}
	s := harness.Start(t, "--set", "messageDelayLevel=1s 1s 1s 1s 1s 1s")
	w := newWorld(t, s.Namesrv)
	topic, group := w.topic("dead", 2), w.name("deadread")
	var healthy atomic.Bool
	var mu sync.Mutex
	got := map[string]int{}
	w.consume("deadread", topic, "*", func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		if !healthy.Load() {
			return consumer.ConsumeRetryLater, nil
		}
		mu.Lock()
		defer mu.Unlock()
		for _, m := range msgs {
			got[string(m.Body)+" of "+m.Topic]++
		}
		return consumer.ConsumeSuccess, nil
	}, consumer.WithMaxReconsumeTimes(2))
	p := w.producer("deadsend")
	began := time.Now().Add(-time.Second)
	for i := range 4 {
		m := primitive.NewMessage(topic, fmt.Appendf(nil, "m%d", i)).WithTag("T").WithKeys([]string{fmt.Sprint("k", i)})
		if _, err := p.SendSync(context.Background(), m); err != nil {
			t.Fatal(err)
		}
	}
	var shown shownLetters
	w.eventually("four dead letters", func() bool {
		return w.merlinJSON(&shown, "dlq", "show", group) == nil && len(shown.Letters) == 4
	})
	for _, l := range shown.Letters {
		if l.Topic != topic || l.Reason != "MAX_ATTEMPTS" || l.Limit != 2 || len(l.Attempts) != 3 || l.UniqueKey == "" {
			t.Errorf("%+v", l)
		}
		for i, a := range l.Attempts {
			if a.Time.Before(began) || a.Time.After(time.Now()) || !strings.Contains(a.Client, "@") || i > 0 && a.Time.Sub(l.Attempts[i-1].Time) < 900*time.Millisecond {
				t.Errorf("attempt %d of %s: %+v", i, l.Keys, a)
			}
		}
	}
	text, err := w.merlin("dlq", "list")
	if err != nil || !strings.Contains(text, group+"\t4\t") || !strings.Contains(text, topic+" (4)") {
		t.Errorf("%q, %v", text, err)
	}
	if text := metrics(t, s); !strings.Contains(text, `merlin_dlq_messages{consumer_group="`+group+`"} 4`) ||
		!strings.Contains(text, `rocketmq_send_to_dlq_messages_total{consumer_group="`+group+`"} 4`) || !strings.Contains(text, `merlin_dlq_oldest_age_seconds{consumer_group="`+group+`"} `) {
		t.Errorf("the metrics are\n%s", text)
	}
	healthy.Store(true)
	results := filepath.Join(t.TempDir(), "results.jsonl")
	if text, err = w.merlin("dlq", "redrive", group, "--to", "retry", "--key", "k1", "--results", results); err != nil {
		t.Fatal(err)
	}
	if line, err := os.ReadFile(results); err != nil || !bytes.Contains(line, []byte(`"status":"sent"`)) || bytes.Count(line, []byte("\n")) != 1 {
		t.Errorf("results %s, %v; %s", line, err, text)
	}
	if text, err = w.merlin("dlq", "redrive", group, "--dry-run"); err != nil || !strings.Contains(text, "4 of 4 dead letters would be sent\n4\tto "+topic) {
		t.Errorf("%q, %v", text, err)
	}
	if _, err = w.merlin("dlq", "redrive", group, "--rate", "100"); err != nil {
		t.Fatal(err)
	}
	w.eventually("all are consumed, and the one that was chosen twice", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == 4 && got["m1 of "+topic] == 2 && got["m0 of "+topic] == 1
	})
	export := filepath.Join(t.TempDir(), "dead.jsonl")
	if _, err := w.merlin("dlq", "export", group, "--output", export); err != nil {
		t.Fatal(err)
	}
	if lines, err := os.ReadFile(export); err != nil || bytes.Count(lines, []byte("\n")) != 4 || !bytes.Contains(lines, []byte(`"body":"bTA="`)) {
		t.Errorf("export %s, %v", lines, err)
	}
	if _, err := w.merlin("dlq", "purge", group); err == nil {
		t.Error("a purge without --yes was done")
	}
	if _, err := w.merlin("dlq", "purge", group, "--yes"); err != nil {
		t.Fatal(err)
	}
	if err := w.merlinJSON(&shown, "dlq", "show", group); err != nil || len(shown.Letters) != 0 {
		t.Errorf("after the purge: %+v, %v", shown, err)
	}
	if _, err := w.merlin("dlq", "redrive", group); err == nil || !strings.Contains(err.Error(), "no dead letters") {
		t.Errorf("a re-drive of nothing: %v", err)
	}
}

// TestRedriveSurvivesKills: the command that watches a re-drive is killed, and
// so is the broker; in the end each dead letter was sent once.
func TestRedriveSurvivesKills(t *testing.T) {
	if testing.Short() || harness.External() != "" {
		t.Skip("kills a server of our own")
	}
	const n = 3000
	s := harness.Start(t)
	w := newWorld(t, s.Namesrv)
	out, group := w.topic("redriven", 2), w.name("redrive")
	dead := "%DLQ%" + group
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	admin, err := client.Open(client.Options{NameServers: w.ns})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if text, err := w.merlin("topic", "create", dead, "--queues", "1"); err != nil {
		t.Fatal(text, err)
	}
	p := w.producer("dying")
	for i := 0; i < n; {
		var items []*primitive.Message
		for range 100 {
			items = append(items, primitive.NewMessage(dead, fmt.Append(nil, i)))
			i++
		}
		if _, err := p.SendSync(ctx, items...); err != nil {
			t.Fatal(err)
		}
	}
	watch := exec.Command(harness.Build(t), "dlq", "redrive", group, "--topic", out, "--rate", "800", "--id", "kill-9", "--namesrv", strings.Join(w.ns, ";"))
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	at := func(least int64) {
		t.Helper()
		w.eventually(fmt.Sprintf("%d are sent", least), func() bool {
			jobs, err := admin.Redrives(ctx, "kill-9")
			return err == nil && len(jobs) == 1 && jobs[0].Sent >= least
		})
	}
	at(200)
	if err := watch.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = watch.Wait() // it was killed
	for _, least := range []int64{700, 1400} {
		at(least)
		if err := errors.Join(s.Kill(), s.Restart()); err != nil {
			t.Fatal(err)
		}
	}
	text, err := w.merlin("dlq", "redrive", "--id", "kill-9", "--json")
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(text, `"status":"sent"`); lines != n || !strings.Contains(text, `"state":"done"`) {
		t.Errorf("%d results", lines)
	}
	var in inbox
	w.consume("redriven", out, "*", in.take)
	w.eventually("all messages", func() bool { return len(in.bodies()) == n })
	if got := len(in.all()); got != n {
		t.Errorf("%d messages came of %d", got, n)
	}
}
