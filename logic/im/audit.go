package im

// RebuildProgress is how far a walk through all users has come that completes their
// projection from MySQL. Times are Unix ms, 0: not yet.
type RebuildProgress struct {
	StartedAt int64
	EndedAt   int64
	Users     int    // completed
	Failed    int    // completed when they are next read
	At        UserID // done up to here
	Last      UserID // the highest there was at the start
}

// Running says that the walk goes on.
func (p RebuildProgress) Running() bool { return p.StartedAt > 0 && p.EndedAt == 0 }
