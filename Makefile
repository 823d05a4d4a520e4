# curlew: the two commands are `go run .` and `make test`.

GOTESTSUM = go run gotest.tools/gotestsum@v1.13.0 --format pkgname-and-test-fails --hide-summary skipped

.PHONY: test test-embedded test-real check services bench

# Everything: the real stores are brought up (installed where absent), then the whole
# suite runs on the embedded stores, and on the real ones with the race detector.
test: check services test-embedded test-real

check:
	scripts/check.sh

services:
	scripts/services up

test-embedded:
	env -u CURLEW_REDIS_ADDR -u CURLEW_MYSQL_DSN -u CURLEW_MYSQL_ADMIN_DSN -u CURLEW_KAFKA_ADDRS $(GOTESTSUM) -- -count=1 ./...

test-real:
	eval "$$(scripts/services env)" && CGO_ENABLED=1 $(GOTESTSUM) -- -race -count=1 ./...
