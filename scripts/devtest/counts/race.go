//go:build race

package counts

// Race says that the race detector is in: allocations are not the program's alone.
const Race = true
