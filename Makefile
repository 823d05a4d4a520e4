# curlew: the two commands are `go run .` and `make test`.

GOTESTSUM = go run gotest.tools/gotestsum@v1.13.0 --format pkgname-and-test-fails --hide-summary skipped

.PHONY: test check services test-browser test-faults test-embedded test-real bench faults

# Everything: the real stores are brought up (installed where absent, as is nginx), then the page is
# tested in a browser, the engine is held to its promises under some faults, and the whole
# suite runs on the embedded stores, and on the real ones with the race detector.
test: check services test-browser test-faults test-embedded test-real

check:
	scripts/check.sh

services:
	scripts/services up
	scripts/services tools || echo "no nginx: the tests behind it are skipped"

# Says that it is skipped where a browser can be neither found nor installed.
test-browser:
	scripts/browser/run

test-faults:
	go run ./scripts/faults -quick

test-embedded:
	env -u CURLEW_REDIS_ADDR -u CURLEW_MYSQL_DSN -u CURLEW_MYSQL_ADMIN_DSN -u CURLEW_KAFKA_ADDRS $(GOTESTSUM) -- -count=1 ./...

# What is judged at the door is the same on any store: bad input and floods were tried on the
# embedded ones, and the simulator's minute of seeds was spent there.
test-real:
	eval "$$(scripts/services env)" && CGO_ENABLED=1 env -u CI $(GOTESTSUM) -- -race -count=1 -skip '^Test(Abuse|Flood|Input|Startup)_' ./...

# The whole of what the quick form above samples: hours. -run F1,F6 picks.
faults:
	go run ./scripts/faults

# A short form of what the README's figures come from.
bench:
	go run ./scripts/bench -scenarios pairs,rate,group,connect,sync,replay -rates 1000 -groups 100x4,1000x1 -connects 2000 -conversations 100 -warm 3s -span 5s
