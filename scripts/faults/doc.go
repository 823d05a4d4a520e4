// Faults breaks a running Curlew and holds what everybody saw to what was promised:
//
//	go run ./scripts/faults -quick              the few that CI runs
//	go run ./scripts/faults                     all of them
//	go run ./scripts/faults -run F1,F6 -injections 20 -seconds 300 -rate 150
//	go run ./scripts/faults -teeth              seeded bugs that must be found
//	go run ./scripts/faults -cluster            one node of three: Redis masters, Kafka brokers
//	go run ./scripts/faults -list
//
// It has stores of its own (scripts/services, in a folder and on ports of its own),
// builds the engine and runs two processes of each role. Users in one-to-one
// conversations and groups of four sizes send over HTTP and WebSocket, by the public
// protocol only; what each of them asked, was answered and was shown is recorded. Then the
// record and the history of every member are checked, and a line is printed for each fault
// (RELIABILITY.md, section 3). The exit status is 1 if any count on it is not zero.
//
// On the line, after the classes of check.go: recover_s, median and most, from the breaking
// or the mending (fault.healed) until in every conversation a message sent after it has been
// seen by somebody else, so at low rates it holds the wait for that message; unavailable_s,
// time beyond a second in which nobody was acked; longest_s, the longest wait for an answer;
// missed, the share of what connected devices saw that no push brought; faults, injections,
// the last of which meets the last messages of the run. Then come the fault's own figures
// (tally.go): sums, and distributions as name(median,p99,most), with =MISS(n) where the most
// is above n, which it should not be.
//
// A new fault is a value in a file by subject, entered in faults (fault.go); a new seeded
// bug is a file in teeth.
//
//	[F1] the checker sees only what users see: answers, pushes, pulls, lists; of stores and
//	     metrics is asked only whether a fault came about, and what an operator is to see of it
//	[F2] the model it holds them to is made of what was asked and of one observer's
//	     history; nothing of the engine's is called to make it
//	[F3] no time decides a verdict: what is late is waited for, and what is still missing
//	     when its device has asked twice since is stuck
//	[F4] what was to be broken is seen to be broken, or the run has failed (unbroken)
//	[F5] only processes and stores that it started are touched, and they end with it
package main
