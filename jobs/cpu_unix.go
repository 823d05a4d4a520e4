//go:build unix

package jobs

import (
	"syscall"
	"time"
)

// processCPU is the processor time that this process has used; 0 where it is not known.
func processCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
