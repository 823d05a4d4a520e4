// Command bench measures Curlew as it runs in production: a process for each role, real
// stores that it starts itself, and a load that comes over the public protocol alone.
//
//	go run ./scripts/bench                                    everything, about 15 minutes
//	go run ./scripts/bench -scenarios pairs,rate -span 30s    some of it
//	go run ./scripts/bench -scenarios pairs -floor            beside the stores driven directly
//	go run ./scripts/bench -growth all                        curves instead, about 20 minutes
//	go run ./scripts/bench -scenarios pairs,rate -cluster     on a Redis Cluster and three brokers
//
// Every run checks while it measures that nothing is lost, doubled or out of order, and
// ends with a line of JSON. On a machine that others share, rates and delays move with
// them: CPU time for each message, over all processes and stores, is the figure to steer
// by, and counts are what they are.
//
// A scenario is a file: pairs.go, rate.go, group.go (messages; talk.go is what they share),
// connects.go (idle connections, and a herd that comes), pulls.go (history, sync), replay.go
// (real chat), scale.go (processes that come and go under load). growth.go measures what a message costs against what grows; the command
// picture draws that, and the comparison with peers, from the lines of JSON. costs.go
// reads what processes and stores have used, verify.go holds what came against what was
// sent, floor.go drives stores and sockets directly.
package main
