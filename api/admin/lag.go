package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/curlew-im/curlew/logic/im"
)

// PartitionLag is where the workers stand in one partition of a lane's topic.
type PartitionLag struct {
	Lane      im.Lane `json:"lane"`
	Partition int     `json:"partition"`
	Start     int64   `json:"start"`
	Committed int64   `json:"committed"` // the next to be done; -1: nothing was ever committed
	End       int64   `json:"end"`
	Records   int64   `json:"records"` // that wait
	AgeMS     int64   `json:"age_ms"`  // of the oldest of them
	Owner     string  `json:"owner,omitempty"`
	State     string  `json:"state"` // ok, missing, stopped, unknown
}

// Lag is the answer of GET /v1/admin/lag.
type Lag struct {
	Partitions []PartitionLag `json:"partitions"`
}

func (s *Server) handleLag(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	all, err := s.deps.Logs.Lag(ctx)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	answer := Lag{Partitions: make([]PartitionLag, len(all))}
	for i, p := range all {
		answer.Partitions[i] = PartitionLag{
			Lane: p.Lane, Partition: p.Partition, Start: p.Start, Committed: p.Committed, End: p.End,
			Records: p.Records, AgeMS: p.Age.Milliseconds(), Owner: p.Owner, State: lagState(&p),
		}
	}
	write(w, http.StatusOK, answer)
}

func lagState(p *im.PartitionLag) string {
	switch {
	case p.Stopped:
		return "stopped"
	case p.Unknown:
		return "unknown"
	case p.Missing:
		return "missing"
	}
	return "ok"
}

// ResumeRequest says where a stopped partition goes on.
type ResumeRequest struct {
	Offset Offset `json:"offset"`
}

// Resumed is where it went on.
type Resumed struct {
	Offset int64 `json:"offset"`
}

// Offset is a number, or an end of the log: "earliest", "latest".
type Offset int64

// ParseOffset reads what an operator typed.
func ParseOffset(s string) (Offset, error) {
	switch s {
	case "earliest":
		return Offset(im.OffsetEarliest), nil
	case "latest":
		return Offset(im.OffsetLatest), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, im.Invalid("offset", `must be a number from 0, "earliest" or "latest"`)
	}
	return Offset(n), nil
}

// MarshalJSON writes the name of an end, or the number.
func (o Offset) MarshalJSON() ([]byte, error) {
	switch int64(o) {
	case im.OffsetEarliest:
		return []byte(`"earliest"`), nil
	case im.OffsetLatest:
		return []byte(`"latest"`), nil
	}
	return strconv.AppendInt(nil, int64(o), 10), nil
}

// UnmarshalJSON takes either.
func (o *Offset) UnmarshalJSON(b []byte) (err error) {
	text := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	}
	if *o, err = ParseOffset(text); err != nil {
		return fmt.Errorf("offset: %w", err)
	}
	return nil
}

// handleResume has a partition of this process go on that stands still.
func (s *Server) handleResume(w http.ResponseWriter, r *http.Request) {
	lane := im.Lane(r.PathValue("lane"))
	partition, err := strconv.Atoi(r.PathValue("partition"))
	if err != nil {
		s.fail(w, r, im.ErrNotFound)
		return
	}
	req := struct { // where nothing is said nothing is assumed
		Offset *Offset `json:"offset"`
	}{}
	if err := read(w, r, &req); err != nil {
		s.fail(w, r, err)
		return
	}
	if req.Offset == nil {
		s.fail(w, r, im.Invalid("offset", `must be a number from 0, "earliest" or "latest"`))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	at, err := s.deps.Logs.Resume(ctx, lane, partition, int64(*req.Offset))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.deps.Log.Warn("partition resumed", "by", "operator", "lane", lane, "partition", partition, "offset", at)
	write(w, http.StatusOK, Resumed{Offset: at})
}
