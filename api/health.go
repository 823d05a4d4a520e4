package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/logic/im"
)

// health tells a balancer whether to send requests here. It asks no store: one that
// is away takes with it only what needs it (contract 11).
func (s *Server) health(c *gin.Context) {
	if s.draining.Load() {
		s.abort(c, im.ErrShuttingDown)
		return
	}
	s.write(c, http.StatusOK, map[string]string{"status": "ok"})
}
