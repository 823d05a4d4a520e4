package connector

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/api/protocol"
)

type metrics struct {
	connections prometheus.Gauge
	sessions    prometheus.Gauge
	handshakes  *prometheus.CounterVec
	received    prometheus.Counter
	messages    prometheus.Counter
	frames      prometheus.Counter
	writes      prometheus.Counter
	pushes      *prometheus.CounterVec
	refused     *prometheus.CounterVec
	closes      *prometheus.CounterVec
	routes      *prometheus.CounterVec
	watched     prometheus.Gauge
	presence    prometheus.Counter
	notices     prometheus.Counter
	revoked     prometheus.Counter
	rooms       prometheus.Gauge
	entered     prometheus.Gauge
	asked       *prometheus.CounterVec
	askFailed   prometheus.Counter
	heldDropped prometheus.Counter
	swept       prometheus.Counter
	fanout      prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "curlew_connector_connections", Help: "Open connections."}),
		sessions:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "curlew_connector_sessions", Help: "Connections with an accepted session."}),
		handshakes:  vec("curlew_connector_handshakes_total", "Handshakes by HTTP status of the answer.", "status"),
		received:    counter("curlew_connector_received_bytes_total", "Bytes read, of handshakes and frames."),
		messages:    counter("curlew_connector_messages_total", "Messages received."),
		frames:      counter("curlew_connector_frames_total", "Frames written."),
		writes:      counter("curlew_connector_writes_total", "Writes that carried them."),
		pushes:      vec("curlew_connector_pushes_total", "Deliveries by what became of them: sent, held (until their room is sure of its members), dropped (too many are held), nobody, late, presence, bad.", "result"),
		refused:     vec("curlew_connector_outbox_refused_total", "Frames that found an outbox full.", "reason"),
		closes:      vec("curlew_connector_closes_total", "Ended connections by close code; 1006 without one.", "code"),
		routes:      vec("curlew_connector_routes_failed_total", "Calls to the routes that failed.", "call"),
		watched:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "curlew_connector_presence_watched_users", Help: "Users whose presence is watched here."}),
		presence:    counter("curlew_connector_presence_pushes_total", "Presence pushed, per connection."),
		notices:     counter("curlew_connector_presence_notices_total", "Notices that presence may have changed, per node told."),
		revoked:     counter("curlew_connector_revoked_total", "Sessions ended because their login was."),
		rooms:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "curlew_connector_rooms", Help: "Channels that somebody connected here is in."}),
		entered:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "curlew_connector_rooms_entered", Help: "Those of them that the registry has this node in."}),
		asked:       vec("curlew_connector_rooms_asked_total", "Questions to the directory: users (which rooms they are in), room (who is in it).", "of"),
		askFailed:   counter("curlew_connector_rooms_ask_failed_total", "Questions that failed; they are asked again."),
		heldDropped: counter("curlew_connector_rooms_dropped_total", "Deliveries dropped because too much waited for their room."),
		swept:       counter("curlew_connector_rooms_swept_total", "Entries of dead nodes taken out of the registry."),
		fanout: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "curlew_connector_room_fanout_connections", Help: "Connections that one delivery to a room reached.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8)}),
	}
	for _, c := range []prometheus.Collector{m.connections, m.sessions, m.handshakes, m.received, m.messages, m.frames, m.writes, m.pushes, m.refused, m.closes, m.routes,
		m.watched, m.presence, m.notices, m.revoked, m.rooms, m.entered, m.asked, m.askFailed, m.heldDropped, m.swept, m.fanout} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// closeAbnormal is never sent (RFC 6455 §7.4.1): the peer was gone.
const closeAbnormal protocol.CloseCode = 1006

// closed counts an end. Codes that are none of ours, which a client may choose, are
// counted as one.
func (m *metrics) closed(code protocol.CloseCode) {
	label := "other"
	if code >= protocol.CloseNormal && code <= protocol.CloseTryLater {
		label = strconv.Itoa(int(code))
	}
	switch code {
	case protocol.CloseUnauthenticated, protocol.CloseForbidden, protocol.CloseAuthTimeout,
		protocol.CloseReplaced, protocol.CloseSlow, protocol.CloseRateLimited:
		label = strconv.Itoa(int(code))
	}
	m.closes.WithLabelValues(label).Inc()
}
