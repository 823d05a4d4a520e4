package jobs

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	messages *prometheus.CounterVec
	receipts *prometheus.CounterVec
	changes  *prometheus.CounterVec
	steps    *prometheus.HistogramVec
	batch    *prometheus.HistogramVec
	busy     *prometheus.GaugeVec
	waits    *prometheus.CounterVec
	rounds   *prometheus.CounterVec
	doubts   prometheus.Counter
	pushes   *prometheus.CounterVec
	// roomMessages beside pushes{kind="message_room"}: deliveries to nodes per channel message.
	roomMessages prometheus.Counter
	pushLost     *prometheus.CounterVec
	stalls       prometheus.Counter
	leases       *prometheus.CounterVec
	cursors      prometheus.Counter
	abandoned    prometheus.Counter

	fires         prometheus.Counter
	scheduled     *prometheus.CounterVec
	scheduledLate prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "curlew_jobs_" + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "curlew_jobs_" + name, Help: help}, labels)
	}
	m := &metrics{
		messages: counters("messages_total", "Accepted messages by what became of them: stored, duplicate, conflict, dead.", "result"),
		receipts: counters("receipts_total", "Receipts by result: moved, unmoved, foreign.", "result"),
		changes:  counters("changes_total", "Accepted changes of messages by kind and result: done, rejected.", "kind", "result"),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "curlew_jobs_step_seconds", Help: "One step of one batch.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 5},
		}, []string{"lane", "step"}),
		batch: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "curlew_jobs_batch_records", Help: "Records in one batch of a strand.", Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}, []string{"lane"}),
		busy:         prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "curlew_jobs_busy_strands", Help: "Strands at work."}, []string{"lane"}),
		waits:        counters("store_waits_total", "Attempts that found a store away or failing, by what was tried.", "op"),
		rounds:       counters("insert_conflicts_total", "Inserts that met a unique key, by key.", "key"),
		doubts:       counter("doubts_total", "Batches that Redis did not take: a row of doubt was written instead."),
		pushes:       counters("pushes_total", "Frames published, per node, by kind.", "kind"),
		roomMessages: counter("room_messages_total", "Messages of channels that had a member online."),
		pushLost:     counters("push_errors_total", "Batches whose pushes were given up, by step.", "step"),
		stalls:       counter("stalls_total", "Times this process left the group because it made no progress."),
		leases:       counters("node_leases_total", "Node leases by event: taken, lost.", "event"),
		cursors:      counter("cursor_moves_total", "Cursor moves written to MySQL."),
		abandoned:    counter("abandoned_records_total", "Records taken and left to the next owner, when draining took too long."),

		fires:     counter("fires_total", "Records that said to the log that scheduled messages of a conversation are due."),
		scheduled: counters("scheduled_total", "Scheduled messages that were due, by what became of them: sent, duplicate, failed.", "result"),
		scheduledLate: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "curlew_jobs_scheduled_late_seconds", Help: "How long after its time the log had a scheduled message.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2, 5, 10, 30, 60, 300},
		}),
	}
	reg.MustRegister(m.fires, m.scheduled, m.scheduledLate)
	reg.MustRegister(m.messages, m.receipts, m.changes, m.steps, m.batch, m.busy, m.waits, m.rounds, m.doubts, m.pushes, m.roomMessages, m.pushLost,
		m.stalls, m.leases, m.cursors, m.abandoned)
	return m
}
