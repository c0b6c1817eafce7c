package broker

import "testing"

// BenchmarkSenderAdd checks and encodes messages of 1 KB, 16 at a time, and
// stores none; one operation is one message.
func BenchmarkSenderAdd(b *testing.B) {
	br, err := Open(b.TempDir(), Options{Settings: DefaultSettings(), StoreHost: testAddr})
	if err != nil {
		b.Fatal(err)
	}
	defer br.Close()
	r := request("orders", string(make([]byte, 1024)), "KEYS\x01order-1234567\x02UNIQ_KEY\x01AC110001000118B4AAC21F8E3F9A0000\x02WAIT\x01true\x02TAGS\x01paid\x02")
	sender := br.NewSender()
	b.ReportAllocs()
	for n := 0; n < b.N; n += 16 {
		sender.Reset()
		for range 16 {
			sender.Add(r)
		}
	}
	if sender.batch.Len() != 16 {
		b.Fatal(sender.batch.Len(), "messages were taken")
	}
}
