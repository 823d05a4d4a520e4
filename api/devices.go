package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func (s *Server) listDevices(c *gin.Context) (int, any, error) {
	devices, err := s.deps.Accounts.Devices(c.Request.Context(), caller(c))
	return http.StatusOK, protocol.Devices{Items: list(devices)}, err
}

// revokeDevice ends a device's tokens and connections, also the caller's own.
func (s *Server) revokeDevice(c *gin.Context) (int, any, error) {
	device := im.DeviceID(c.Param("device"))
	if err := device.Validate(); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, s.deps.Accounts.RevokeDevice(c.Request.Context(), caller(c), device)
}

// list keeps an empty answer an empty array rather than null.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}
