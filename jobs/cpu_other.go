//go:build !unix

package jobs

import "time"

// processCPU is not known here: the advisor never blames the processor.
func processCPU() time.Duration { return 0 }
