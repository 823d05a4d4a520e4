package queue

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	produced     *prometheus.CounterVec   // by lane and outcome
	produceTime  *prometheus.HistogramVec // of a request, by lane
	batchRecords *prometheus.HistogramVec // records per request
	waiting      *prometheus.GaugeVec
	fetched      *prometheus.CounterVec
	stopped      *prometheus.GaugeVec
	rebalances   *prometheus.CounterVec
	errors       *prometheus.CounterVec
	lagRecords   *prometheus.GaugeVec
	lagAge       *prometheus.GaugeVec

	backlogRecords *prometheus.GaugeVec
	backlogAge     *prometheus.GaugeVec
	unpinned       *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	seconds := []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2, 5}
	m := &metrics{
		produced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_queue_produced_total", Help: "Tasks answered by the producer, by outcome.",
		}, []string{"lane", "outcome"}),
		produceTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "curlew_queue_produce_seconds", Help: "One produce request.", Buckets: seconds,
		}, []string{"lane"}),
		batchRecords: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "curlew_queue_produce_records", Help: "Records in one produce request.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}, []string{"lane"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "curlew_queue_waiting_records", Help: "Records taken and not yet answered.",
		}, []string{"lane"}),
		fetched: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_queue_fetched_total", Help: "Records fetched.",
		}, []string{"lane"}),
		stopped: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "curlew_queue_partition_stopped", Help: "1: records are missing from the log; the partition stands still until an operator decides.",
		}, []string{"lane", "partition"}),
		rebalances: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_queue_generations_total", Help: "Group generations joined.",
		}, []string{"lane"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_queue_errors_total", Help: "Failed requests to Kafka.",
		}, []string{"lane", "op"}),
		lagRecords: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "curlew_queue_lag_records", Help: "Records in the log that are not finished.",
		}, []string{"lane", "partition"}),
		lagAge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "curlew_queue_lag_seconds", Help: "Age of the oldest record that is not finished.",
		}, []string{"lane", "partition"}),
	}
	m.backlogRecords = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "curlew_queue_backlog_records", Help: "Records of the whole lane that are not done, as any process sees it that has logic.",
	}, []string{"lane"})
	m.backlogAge = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "curlew_queue_backlog_seconds", Help: "Age of the oldest of them, up to 2 s too high where the workers keep up.",
	}, []string{"lane"})
	m.unpinned = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "curlew_queue_partitions_unpinned", Help: "Partitions of the topic beyond queue.partitions: nothing is produced to them, nothing expected of them. Negative: some are gone.",
	}, []string{"lane"})
	reg.MustRegister(m.backlogRecords, m.backlogAge, m.unpinned)
	reg.MustRegister(m.produced, m.produceTime, m.batchRecords, m.waiting, m.fetched, m.stopped, m.rebalances, m.errors, m.lagRecords, m.lagAge)
	return m
}
