package api

import (
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
)

// What the face itself adds to a send: routing, guards, token header, body, answer.
func BenchmarkSend(b *testing.B) {
	f := &fake{sent: protocol.Sent{State: protocol.StateAccepted, ConversationID: "d7-12", ClientMsgID: "01JF2K9M7Q"}}
	s, err := NewServer(Config{}, Deps{Chat: f, Accounts: f, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, goodRequests["send"].build())
		if w.Code != 202 {
			b.Fatal(w.Code)
		}
	}
}

// To be taken off the above: the request and the recorder.
func BenchmarkSend_Harness(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = goodRequests["send"].build()
		_ = httptest.NewRecorder()
	}
}
