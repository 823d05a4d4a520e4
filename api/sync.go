package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// maxEpoch bounds a generation token given back by a client.
const maxEpoch = 64

// sync is everything that a starting client needs, or what changed since the
// position that epoch, version and merged_at name. before pages on through the former.
func (s *Server) sync(c *gin.Context) (int, any, error) {
	limit, err := queryLimit(c)
	if err != nil {
		return 0, nil, err
	}
	epoch, hasEpoch, err := query(c, "epoch")
	if err != nil {
		return 0, nil, err
	}
	version, err := queryNumber(c, "version")
	if err != nil {
		return 0, nil, err
	}
	mergedAt, err := queryNumber(c, "merged_at")
	if err != nil {
		return 0, nil, err
	}
	req := protocol.Sync{Limit: limit}
	if req.Before, _, err = query(c, "before"); err != nil {
		return 0, nil, err
	}
	switch {
	case hasEpoch != (version != nil):
		return 0, nil, im.Invalid("version", "epoch and version come together")
	case mergedAt != nil && !hasEpoch:
		return 0, nil, im.Invalid("merged_at", "goes with epoch and version")
	case len(epoch) > maxEpoch:
		return 0, nil, im.Invalid("epoch", "not an epoch")
	case epoch != "": // empty while positions are unknown (degraded): as without one
		req.Position = &im.Position{Epoch: im.Generation(epoch), Version: *version}
		if mergedAt != nil {
			req.Position.MergedAt = int64(*mergedAt)
		}
	}
	synced, err := s.deps.Chat.Sync(c.Request.Context(), caller(c), req)
	synced.Conversations, synced.Offline = list(synced.Conversations), list(synced.Offline)
	return http.StatusOK, synced, err
}
