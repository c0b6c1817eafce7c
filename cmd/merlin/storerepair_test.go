package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/merlinmq/merlin/internal/kv"
)

// TestRepairOfTheSmallState goes the way of an operator: a start is refused and
// names the command, which keeps what is readable.
func TestRepairOfTheSmallState(t *testing.T) {
	dir := storeFolder(t)
	if code, _, errs := inFolder(t, dir, "repair", "--kv", "--yes"); code != 1 || !strings.Contains(errs, "no database") {
		t.Errorf("without a database: %d\n%s", code, errs)
	}
	brokerFolder(t, dir)
	small := filepath.Join(dir, "kv")
	const rows = 2000
	db, err := kv.Open(small, kv.Options{WriteBuffer: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	offsets := kv.NewBucket(db, "offset", kv.Int64[int64]())
	for i := range rows {
		if err := offsets.Put(fmt.Appendf(nil, "topic-%d\x00group\x00\x00\x00\x00\x00", i), 0, kv.Buffered); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(small, "*.ldb"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	broken := tables[len(tables)-1]
	text, err := os.ReadFile(broken)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, text[:len(text)/2], 0o644); err != nil {
		t.Fatal(err)
	}

	code, _, errs := merlin(t, context.Background(), serverArgs(dir)...)
	if code != 1 || !strings.Contains(errs, "kv is damaged") || !strings.Contains(errs, "merlin store repair --kv") {
		t.Errorf("a start over a broken table: %d\n%s", code, errs)
	}
	if code, out, errs := inFolder(t, dir, "verify"); code != 1 || !strings.Contains(out, "kv is damaged") {
		t.Errorf("verify: %d\n%s%s", code, out, errs)
	}
	if code, _, errs := inFolder(t, dir, "repair", "--kv"); code != 1 || !strings.Contains(errs, "made anew") || !strings.Contains(errs, "--yes") {
		t.Errorf("repair without --yes: %d\n%s", code, errs)
	}
	if now, err := os.ReadFile(broken); err != nil || !bytes.Equal(now, text[:len(text)/2]) {
		t.Errorf("something was done without --yes: %v", err)
	}
	if code, out, errs := inFolder(t, dir, "repair", "--kv", "--yes"); code != 0 || !strings.Contains(out, "are kept in "+small+".damaged-") {
		t.Fatalf("repair: %d\n%s%s", code, out, errs)
	}
	if keys, err := kv.Verify(small); err != nil || keys == 0 || keys >= rows {
		t.Errorf("%d keys are left, %v", keys, err)
	}
	if code, out, errs := inFolder(t, dir, "verify"); code != 0 {
		t.Errorf("verify afterwards: %d\n%s%s", code, out, errs)
	}
	brokerFolder(t, dir) // it starts

	if err := os.RemoveAll(small); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := inFolder(t, dir, "verify"); code != 1 || !strings.Contains(out, "no database any more") {
		t.Errorf("verify without the folder: %d\n%s", code, out)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if code, out, errs := merlin(t, ctx, append(serverArgs(dir), "--accept-loss")...); code != 0 || !strings.Contains(errs, "small state is gone") {
		t.Errorf("told to accept the loss: %d\n%s%s", code, out, errs)
	}
}
