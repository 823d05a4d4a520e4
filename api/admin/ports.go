package admin

import "context"

// Generations can be told that Redis has forgotten something. storage.Redis
// implements it.
type Generations interface {
	// Reset sets a new generation: each user's lists are read from MySQL once more and
	// sealed anew.
	Reset(ctx context.Context) error
}
