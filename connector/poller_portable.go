//go:build !linux

package connector

// Where there is no epoll, goroutines take its place.
func newPoller(s *Server) (poller, error) { return newNetPoller(s) }

// descriptorLimit is below what macOS gives a process (10,240).
func descriptorLimit() int { return 8192 }

// slot is what epoll alone needs to know of a connection.
type slot struct{}
