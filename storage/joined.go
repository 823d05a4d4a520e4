package storage

import (
	"context"
	"slices"
	"time"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/logic/im/joint"
)

const (
	jointFlights = 2   // so that one fills while another is on its way
	jointKeys    = 256 // in one statement, or round trip

	// jointTimeout bounds a read that may go to Redis and then to MySQL. Its callers wait as
	// long as they like.
	jointTimeout = 5 * time.Second
)

// joinUsers has those who ask about users at the same time ask together.
func joinUsers[Out any](ask func(context.Context, []im.UserID) (Out, error)) *joint.Call[[]im.UserID, Out] {
	return &joint.Call[[]im.UserID, Out]{
		Flights: jointFlights, Room: jointKeys, Timeout: jointTimeout,
		Weigh: func(users []im.UserID) int { return len(users) },
		Join: func(all [][]im.UserID) []im.UserID {
			users := slices.Concat(all...)
			slices.Sort(users)
			return slices.Compact(users)
		},
		Make: ask,
	}
}
