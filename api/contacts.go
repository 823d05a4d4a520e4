package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// listContacts is the full list, from above after, or what changed since a version.
func (s *Server) listContacts(c *gin.Context) (int, any, error) {
	limit, err := queryLimit(c)
	if err != nil {
		return 0, nil, err
	}
	after, err := queryNumber(c, "after")
	if err != nil {
		return 0, nil, err
	}
	since, err := queryNumber(c, "since")
	if err != nil {
		return 0, nil, err
	}
	var from im.UserID
	if after != nil {
		if since != nil {
			return 0, nil, im.Invalid("since", "goes without after")
		}
		from = im.UserID(*after)
	}
	page, err := s.deps.People.Contacts(c.Request.Context(), caller(c), from, since, limit)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

func (s *Server) listContactRequests(c *gin.Context) (int, any, error) {
	limit, err := queryLimit(c)
	if err != nil {
		return 0, nil, err
	}
	before, err := queryNumber(c, "before")
	if err != nil {
		return 0, nil, err
	}
	var from im.ContactRequestID
	if before != nil {
		from = im.ContactRequestID(*before)
	}
	direction, given, err := query(c, "direction")
	if err != nil {
		return 0, nil, err
	}
	if given && direction != "incoming" && direction != "outgoing" {
		return 0, nil, im.Invalid("direction", "must be incoming or outgoing")
	}
	page, err := s.deps.People.ContactRequests(c.Request.Context(), caller(c), direction != "outgoing", from, limit)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

func (s *Server) requestContact(c *gin.Context) (int, any, error) {
	var req protocol.RequestContact
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	contact, err := s.deps.People.RequestContact(c.Request.Context(), caller(c), req)
	return http.StatusOK, contact, err
}

func (s *Server) acceptContact(c *gin.Context) (int, any, error) {
	r, err := im.ParseContactRequestID(c.Param("request"))
	if err != nil {
		return 0, nil, err
	}
	contact, err := s.deps.People.AcceptContact(c.Request.Context(), caller(c), r)
	return http.StatusOK, contact, err
}

func (s *Server) refuseContact(c *gin.Context) (int, any, error) {
	r, err := im.ParseContactRequestID(c.Param("request"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, s.deps.People.RefuseContact(c.Request.Context(), caller(c), r)
}

func (s *Server) withdrawContact(c *gin.Context) (int, any, error) {
	r, err := im.ParseContactRequestID(c.Param("request"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, s.deps.People.WithdrawContact(c.Request.Context(), caller(c), r)
}

func (s *Server) setRemark(c *gin.Context) (int, any, error) {
	u, err := im.ParseUserID(c.Param("user"))
	if err != nil {
		return 0, nil, err
	}
	var req protocol.SetRemark
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	contact, err := s.deps.People.SetRemark(c.Request.Context(), caller(c), u, req.Remark)
	return http.StatusOK, contact, err
}

func (s *Server) removeContact(c *gin.Context) (int, any, error) {
	u, err := im.ParseUserID(c.Param("user"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, s.deps.People.RemoveContact(c.Request.Context(), caller(c), u)
}
