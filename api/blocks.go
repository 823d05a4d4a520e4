package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func (s *Server) listBlocks(c *gin.Context) (int, any, error) {
	blocked, err := s.deps.People.Blocks(c.Request.Context(), caller(c))
	return http.StatusOK, protocol.Blocks{Items: list(blocked)}, err
}

// setBlock blocks or unblocks; doing so twice is as once.
func (s *Server) setBlock(on bool) handler {
	return func(c *gin.Context) (int, any, error) {
		u, err := im.ParseUserID(c.Param("user"))
		if err != nil {
			return 0, nil, err
		}
		return http.StatusNoContent, nil, s.deps.People.SetBlock(c.Request.Context(), caller(c), u, on)
	}
}
