package admin

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/curlew-im/curlew/logic/im"
)

// PoolSettings are the knobs of a pool; durations are as "10ms".
type PoolSettings struct {
	Size          int    `json:"size"`
	Batch         int    `json:"batch"`
	Linger        string `json:"linger"`
	Strands       int    `json:"strands"`
	WindowRecords int    `json:"window_records"`
	Attempts      int    `json:"attempts"`
	BackoffMin    string `json:"backoff_min"`
	BackoffMax    string `json:"backoff_max"`
}

func poolSettings(s im.PoolSettings) PoolSettings {
	return PoolSettings{
		Size: s.Size, Batch: s.Batch, Linger: s.Linger.String(), Strands: s.Strands, WindowRecords: s.WindowRecords,
		Attempts: s.Attempts, BackoffMin: s.BackoffMin.String(), BackoffMax: s.BackoffMax.String(),
	}
}

// PoolPatch turns the knobs that it names.
type PoolPatch struct {
	Size          *int    `json:"size,omitempty"`
	Batch         *int    `json:"batch,omitempty"`
	Linger        *string `json:"linger,omitempty"`
	Strands       *int    `json:"strands,omitempty"`
	WindowRecords *int    `json:"window_records,omitempty"`
	Attempts      *int    `json:"attempts,omitempty"`
	BackoffMin    *string `json:"backoff_min,omitempty"`
	BackoffMax    *string `json:"backoff_max,omitempty"`
}

func (p PoolPatch) read() (im.PoolPatch, error) {
	patch := im.PoolPatch{Size: p.Size, Batch: p.Batch, Strands: p.Strands, WindowRecords: p.WindowRecords, Attempts: p.Attempts}
	for _, f := range []struct {
		name string
		from *string
		to   **time.Duration
	}{
		{"linger", p.Linger, &patch.Linger}, {"backoff_min", p.BackoffMin, &patch.BackoffMin}, {"backoff_max", p.BackoffMax, &patch.BackoffMax},
	} {
		if f.from == nil {
			continue
		}
		d, err := time.ParseDuration(*f.from)
		if err != nil {
			return patch, im.Invalid(f.name, "no duration, as 10ms or 2s is one")
		}
		*f.to = &d
	}
	if patch.Empty() {
		return patch, im.Invalid("settings", "nothing is to be changed")
	}
	return patch, nil
}

// PoolReport is what one process says of one of its pools.
type PoolReport struct {
	im.PoolReport
	Settings PoolSettings `json:"settings"`
}

// Pools is the answer of GET /v1/admin/pools.
type Pools struct {
	Pools []PoolReport `json:"pools"` // by process, and lane in the order of a message
	// Partial says that Redis does not answer: these are the pools of the process asked.
	Partial bool `json:"partial"`
}

// PoolChange is the body of PATCH /v1/admin/pools/{lane}.
type PoolChange struct {
	Process  string    `json:"process"` // empty: all, also those that start later
	Settings PoolPatch `json:"settings"`
}

// PoolChanged is what the pools are set to within a second or two.
type PoolChanged struct {
	Pools []PoolTurned `json:"pools"`
}

// PoolTurned is one of them.
type PoolTurned struct {
	Process  string       `json:"process"`
	Lane     im.Lane      `json:"lane"`
	Settings PoolSettings `json:"settings"`
}

var lanes = []im.Lane{im.LaneRealtime, im.LaneDelay, im.LaneRetry, im.LaneDead}

func (s *Server) handlePools(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	all, partial, err := s.pools(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	answer := Pools{Pools: make([]PoolReport, len(all)), Partial: partial}
	for i, rep := range all {
		answer.Pools[i] = PoolReport{PoolReport: rep, Settings: poolSettings(rep.Settings)}
	}
	write(w, http.StatusOK, answer)
}

// pools are those of all processes; of this one as they are now, and where Redis does not
// answer only these.
func (s *Server) pools(ctx context.Context) (all []im.PoolReport, partial bool, err error) {
	all, err = s.deps.Pools.PoolReports(ctx)
	var own []im.PoolReport
	if s.deps.Own != nil {
		own = s.deps.Own.PoolReports()
	}
	if err != nil {
		if own == nil {
			return nil, false, err
		}
		s.deps.Log.Warn("the pools of other processes are not known", "err", err)
	}
	all = slices.DeleteFunc(all, func(r im.PoolReport) bool { return len(own) > 0 && r.Process == own[0].Process })
	all = append(all, own...)
	slices.SortFunc(all, func(a, b im.PoolReport) int {
		return cmp.Or(cmp.Compare(a.Process, b.Process), slices.Index(lanes, a.Lane)-slices.Index(lanes, b.Lane))
	})
	return all, err != nil, nil
}

// handleSetPool refuses what any of the pools would refuse, before it is set.
func (s *Server) handleSetPool(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	var change PoolChange
	if err := read(w, r, &change); err != nil {
		s.fail(w, r, err)
		return
	}
	changed, err := s.setPool(ctx, im.Lane(r.PathValue("lane")), change)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	write(w, http.StatusOK, changed)
}

func (s *Server) setPool(ctx context.Context, lane im.Lane, change PoolChange) (PoolChanged, error) {
	var changed PoolChanged
	patch, err := change.Settings.read()
	if err != nil {
		return changed, err
	}
	all, _, err := s.pools(ctx)
	if err != nil {
		return changed, err
	}
	var alone map[string]im.PoolPatch
	if change.Process == "" {
		if alone, err = s.deps.Pools.SetAlone(ctx, lane); err != nil {
			return changed, err
		}
	}
	for _, rep := range all {
		if rep.Lane != lane || change.Process != "" && rep.Process != change.Process {
			continue
		}
		open := rep.Settings.With(patch) // what is set for one alone hides it for now, and may not hide what is wrong
		next := open.With(alone[rep.Process])
		if err := cmp.Or(open.Validate(), next.Validate()); err != nil {
			return changed, err
		}
		changed.Pools = append(changed.Pools, PoolTurned{rep.Process, lane, poolSettings(next)})
	}
	if len(changed.Pools) == 0 {
		return changed, im.ErrNotFound
	}
	if err := s.deps.Pools.SetPool(ctx, change.Process, lane, patch); err != nil {
		return changed, err
	}
	s.deps.Log.Info("pool set", "by", "operator", "lane", lane, "process", change.Process)
	return changed, nil
}

func (s *Server) handleResetPool(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	lane, process := im.Lane(r.PathValue("lane")), r.URL.Query().Get("process")
	if !slices.Contains(lanes, lane) {
		s.fail(w, r, im.ErrNotFound)
		return
	}
	if err := s.deps.Pools.ResetPool(ctx, process, lane); err != nil {
		s.fail(w, r, err)
		return
	}
	s.deps.Log.Info("pool reset", "by", "operator", "lane", lane, "process", process)
	w.WriteHeader(http.StatusNoContent)
}
