package admin

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// RebuildRequest says whose part of Redis is to be completed from MySQL anew.
type RebuildRequest struct {
	User  string `json:"user,omitempty"`  // one, by ID or handle: at once
	All   bool   `json:"all,omitempty"`   // everybody, as they are read
	Eager bool   `json:"eager,omitempty"` // with All: also those whom nobody reads
}

// RebuildProgress is how far it has come; times are Unix ms. After the rebuild of one
// user it is of that alone.
type RebuildProgress struct {
	Running   bool      `json:"running"`
	StartedAt int64     `json:"started_at,omitempty"`
	EndedAt   int64     `json:"ended_at,omitempty"`
	Users     int       `json:"users"`  // completed
	Failed    int       `json:"failed"` // completed when they are next read
	At        im.UserID `json:"at,omitempty"`
	Last      im.UserID `json:"last,omitempty"` // the highest ID there was at the start
}

// Took is from the start to the end.
func (p RebuildProgress) Took() time.Duration {
	return time.Duration(p.EndedAt-p.StartedAt) * time.Millisecond
}

func progress(p im.RebuildProgress) RebuildProgress {
	return RebuildProgress{
		Running: p.Running(), StartedAt: p.StartedAt, EndedAt: p.EndedAt,
		Users: p.Users, Failed: p.Failed, At: p.At, Last: p.Last,
	}
}

// handleRebuild answers when the user is rebuilt, or a new generation stands and the
// walk has begun.
func (s *Server) handleRebuild(w http.ResponseWriter, r *http.Request) {
	var req RebuildRequest
	if err := read(w, r, &req); err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	switch {
	case (req.User != "") == req.All:
		s.fail(w, r, im.Invalid("user", "one user, or all"))
	case req.Eager && !req.All:
		s.fail(w, r, im.Invalid("eager", "goes with all"))
	case req.All:
		s.rebuildAll(ctx, w, r, req.Eager)
	default:
		s.rebuildUser(ctx, w, r, req.User)
	}
}

func (s *Server) rebuildAll(ctx context.Context, w http.ResponseWriter, r *http.Request, eager bool) {
	if eager && s.deps.Rebuilds.Progress().Running() {
		s.fail(w, r, im.ErrConflict)
		return
	}
	if err := s.deps.Generations.Reset(ctx); err != nil {
		s.fail(w, r, err)
		return
	}
	s.deps.Log.Info("new generation", "by", "operator")
	if !eager {
		write(w, http.StatusAccepted, progress(s.deps.Rebuilds.Progress()))
		return
	}
	p, err := s.deps.Rebuilds.RebuildAll(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	write(w, http.StatusAccepted, progress(p))
}

func (s *Server) rebuildUser(ctx context.Context, w http.ResponseWriter, r *http.Request, name string) {
	n, err := strconv.ParseUint(name, 10, 64)
	u := im.UserID(n)
	if err != nil { // a handle begins with a letter
		if u, err = s.deps.Rebuilds.HandleID(ctx, strings.TrimPrefix(name, "@")); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	start := time.Now()
	if err := s.deps.Rebuilds.RebuildUser(ctx, u); err != nil {
		s.fail(w, r, err)
		return
	}
	s.deps.Log.Info("user rebuilt", "by", "operator", "user", u)
	write(w, http.StatusOK, progress(im.RebuildProgress{StartedAt: start.UnixMilli(), EndedAt: time.Now().UnixMilli(), Users: 1}))
}

func (s *Server) handleRebuildProgress(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, progress(s.deps.Rebuilds.Progress()))
}
