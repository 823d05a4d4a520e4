package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
)

// send answers 202 when the message is accepted; 200 when it is known to be stored
// already; with ?wait=stored 201 when it is stored, 202 where that takes over 4.5 s; 201
// where it is scheduled.
func (s *Server) send(c *gin.Context) (int, any, error) {
	wait, err := waitStored(c)
	if err != nil {
		return 0, nil, err
	}
	var req protocol.Send
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	sent, err := s.deps.Chat.SendAndWait(c.Request.Context(), caller(c), req, wait)
	return storedStatus(sent.State, wait), sent, err
}

func storedStatus(state protocol.SendState, waited bool) int {
	switch {
	case state == protocol.StateScheduled:
		return http.StatusCreated
	case state != protocol.StateStored:
		return http.StatusAccepted
	case waited:
		return http.StatusCreated
	}
	return http.StatusOK
}
