package logic

import (
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// BenchmarkHandleSend is everything logic does for one message of a socket but the
// stores: envelope and data decoded, decided, given to the log, answered.
func BenchmarkHandleSend(b *testing.B) {
	w := newWorld()
	s := w.service(b, Config{SendPerSecond: -1})
	w.produce = func(_ im.Task, done func(error)) { w.tasks = w.tasks[:0]; done(nil) }
	frame := []byte(`{"id":"17","cmd":"send","data":{"client_msg_id":"0123456789abcdef","to":{"user_id":"9"},"type":"text","content":` +
		`{"text":"See you at the station at half past seven, the usual place. Bring the long umbrella, it rains again."}}}`)
	b.ReportAllocs()
	for b.Loop() {
		s.Handle(b.Context(), annsSession, frame, func(protocol.Answer) {})
	}
}
