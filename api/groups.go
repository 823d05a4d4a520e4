package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// changedStatus is 200 where everyone has been told of the change, else 202.
func changedStatus(changed protocol.GroupChanged) int {
	if changed.Applied {
		return http.StatusOK
	}
	return http.StatusAccepted
}

func (s *Server) createGroup(c *gin.Context) (int, any, error) {
	var req protocol.CreateGroup
	if err := s.body(c, &req); err != nil {
		return 0, nil, err
	}
	changed, err := s.deps.Groups.CreateGroup(c.Request.Context(), caller(c), req)
	return changedStatus(changed), changed, err
}

func (s *Server) listGroups(c *gin.Context) (int, any, error) {
	after, limit, err := queryAfter(c)
	if err != nil {
		return 0, nil, err
	}
	page, err := s.deps.Groups.Groups(c.Request.Context(), caller(c), im.GroupID(after), limit)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

func (s *Server) group(c *gin.Context) (int, any, error) {
	g, err := im.ParseGroupID(c.Param("group"))
	if err != nil {
		return 0, nil, err
	}
	group, err := s.deps.Groups.Group(c.Request.Context(), caller(c), g)
	return http.StatusOK, group, err
}

func (s *Server) updateGroup(c *gin.Context) (int, any, error) {
	var req protocol.UpdateGroup
	return s.groupBody(c, &req, func(g im.GroupID) (protocol.GroupChanged, error) {
		return s.deps.Groups.UpdateGroup(c.Request.Context(), caller(c), g, req)
	})
}

func (s *Server) dissolveGroup(c *gin.Context) (int, any, error) {
	return s.changeGroup(c, func(g im.GroupID) (protocol.GroupChanged, error) {
		return s.deps.Groups.DissolveGroup(c.Request.Context(), caller(c), g)
	})
}

func (s *Server) transferGroup(c *gin.Context) (int, any, error) {
	var req protocol.TransferGroup
	return s.groupBody(c, &req, func(g im.GroupID) (protocol.GroupChanged, error) {
		if req.UserID == im.SystemUser {
			return protocol.GroupChanged{}, im.Invalid("user_id", "missing")
		}
		return s.deps.Groups.TransferGroup(c.Request.Context(), caller(c), g, req.UserID)
	})
}

func (s *Server) joinGroup(c *gin.Context) (int, any, error) {
	var req protocol.JoinGroup
	return s.groupBody(c, &req, func(g im.GroupID) (protocol.GroupChanged, error) {
		return s.deps.Groups.JoinGroup(c.Request.Context(), caller(c), g, req)
	})
}

func (s *Server) withdrawJoin(c *gin.Context) (int, any, error) {
	g, err := im.ParseGroupID(c.Param("group"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, s.deps.Groups.WithdrawJoin(c.Request.Context(), caller(c), g)
}

func (s *Server) listJoinRequests(c *gin.Context) (int, any, error) {
	g, err := im.ParseGroupID(c.Param("group"))
	if err != nil {
		return 0, nil, err
	}
	after, limit, err := queryAfter(c)
	if err != nil {
		return 0, nil, err
	}
	page, err := s.deps.Groups.JoinRequests(c.Request.Context(), caller(c), g, im.UserID(after), limit)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

func (s *Server) decideJoin(accept bool) handler {
	return func(c *gin.Context) (int, any, error) {
		return s.changeMember(c, func(g im.GroupID, user im.UserID) (protocol.GroupChanged, error) {
			return s.deps.Groups.DecideJoin(c.Request.Context(), caller(c), g, user, accept)
		})
	}
}

// changeGroup answers a change that the path alone says.
func (s *Server) changeGroup(c *gin.Context, change func(im.GroupID) (protocol.GroupChanged, error)) (int, any, error) {
	g, err := im.ParseGroupID(c.Param("group"))
	if err != nil {
		return 0, nil, err
	}
	changed, err := change(g)
	return changedStatus(changed), changed, err
}

// groupBody answers a change that the body says.
func (s *Server) groupBody(c *gin.Context, req any, change func(im.GroupID) (protocol.GroupChanged, error)) (int, any, error) {
	return s.changeGroup(c, func(g im.GroupID) (protocol.GroupChanged, error) {
		if err := s.body(c, req); err != nil {
			return protocol.GroupChanged{}, err
		}
		return change(g)
	})
}
