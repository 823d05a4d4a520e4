#!/usr/bin/env bash
# Known vulnerabilities that our code reaches: govulncheck, pinned, over the whole
# module. Exit 1 on a finding. The database is on the network (vuln.go.dev, no part of a
# module proxy): a machine that cannot reach it is told so and passes.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(mktemp)
trap 'rm -f "$out"' EXIT
check() { go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 "$@" >"$out" 2>&1; }
# A leaf first: without the database the whole module is not loaded for nothing.
if check ./logic/im && check ./...; then
	echo "vuln: no known vulnerability is reached"
elif grep -q 'fetching vulnerabilities: ' "$out"; then
	echo "vuln: SKIPPED, the vulnerability database is out of reach: $(grep -m1 -o 'fetching vulnerabilities: .*' "$out")" >&2
elif grep -q -e 'golang.org/x/vuln@v[0-9.]*: ' -e 'govulncheck@v[0-9.]*: ' "$out"; then
	echo "vuln: SKIPPED, govulncheck itself cannot be fetched: $(tail -n 1 "$out")" >&2
else
	cat "$out" >&2
	exit 1
fi
