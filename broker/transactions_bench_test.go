package broker

import (
	"testing"

	"github.com/merlinmq/merlin/message"
)

// BenchmarkTransaction sends halves of 1 KB, 16 at a time, and commits them.
func BenchmarkTransaction(b *testing.B) {
	s := DefaultSettings()
	br, err := Open(b.TempDir(), Options{Settings: s, StoreHost: testAddr})
	if err != nil {
		b.Fatal(err)
	}
	defer br.Close()
	r := request("orders", string(make([]byte, 1024)), halfProps)
	sender, ender := br.NewSender(), br.NewEnder()
	b.ReportAllocs()
	b.SetBytes(1024)
	for n := 0; n < b.N; n += 16 {
		sender.Reset()
		ender.Reset()
		for range 16 {
			sender.Add(r)
		}
		for _, res := range sender.Commit() {
			if res.Err != nil {
				b.Fatal(res.Err)
			}
			_, pos, _ := message.ParseOffsetID(string(res.AppendMessageID(nil)))
			ender.Add(TransactionEnd{Group: "g", Offset: res.Offset, Position: pos, Verdict: TransactionCommit})
		}
		for _, e := range ender.Commit() {
			if e.Err != nil {
				b.Fatal(e.Err)
			}
		}
	}
}
