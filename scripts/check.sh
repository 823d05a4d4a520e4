#!/usr/bin/env bash
# What must hold before a test is worth running: format, vet on both systems, a C
# compiler for the race detector, that the two systems build, and no known vulnerability.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(git ls-files '*.go' | xargs -r gofmt -l)
if [ -n "$unformatted" ]; then
	echo "gofmt would change:" $unformatted >&2
	exit 1
fi
if ! command -v gcc >/dev/null 2>&1; then
	echo "check: installing gcc, which the race detector needs"
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
		echo "check: no gcc; install one (Debian: apt-get install gcc libc6-dev)" >&2
		exit 1
	fi
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev >/dev/null
fi
go vet ./...
# macOS cannot be run here: it is built and vetted.
CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 go vet ./...
scripts/vuln.sh
echo "check: format, vet, build for linux and darwin: ok"
