package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// member reads whom the path names; "me" is the caller.
func member(c *gin.Context) (im.UserID, error) {
	if c.Param("user") == "me" {
		return caller(c).User, nil
	}
	return im.ParseUserID(c.Param("user"))
}

// channel reads which channel of which group the path names.
func channel(c *gin.Context) (im.GroupID, im.ConversationID, error) {
	g, err := im.ParseGroupID(c.Param("group"))
	if err != nil {
		return 0, "", err
	}
	id, err := im.ParseConversationID(c.Param("conversation"))
	return g, id, err
}

func (s *Server) listGroupMembers(c *gin.Context) (int, any, error) {
	g, err := im.ParseGroupID(c.Param("group"))
	if err != nil {
		return 0, nil, err
	}
	after, limit, err := queryAfter(c)
	if err != nil {
		return 0, nil, err
	}
	page, err := s.deps.Groups.GroupMembers(c.Request.Context(), caller(c), g, im.UserID(after), limit)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

func (s *Server) addGroupMembers(c *gin.Context) (int, any, error) {
	var req protocol.AddMembers
	return s.groupBody(c, &req, func(g im.GroupID) (protocol.GroupChanged, error) {
		return s.deps.Groups.AddMembers(c.Request.Context(), caller(c), g, req)
	})
}

func (s *Server) removeGroupMember(c *gin.Context) (int, any, error) {
	return s.changeMember(c, func(g im.GroupID, user im.UserID) (protocol.GroupChanged, error) {
		return s.deps.Groups.RemoveMember(c.Request.Context(), caller(c), g, user)
	})
}

func (s *Server) setRole(c *gin.Context) (int, any, error) {
	return s.changeMember(c, func(g im.GroupID, user im.UserID) (protocol.GroupChanged, error) {
		var req protocol.SetRole
		if err := s.body(c, &req); err != nil {
			return protocol.GroupChanged{}, err
		}
		return s.deps.Groups.SetRole(c.Request.Context(), caller(c), g, user, req.Role)
	})
}

func (s *Server) muteMember(c *gin.Context) (int, any, error) {
	return s.changeMember(c, func(g im.GroupID, user im.UserID) (protocol.GroupChanged, error) {
		var req protocol.MuteMember
		if err := s.body(c, &req); err != nil {
			return protocol.GroupChanged{}, err
		}
		return s.deps.Groups.MuteMember(c.Request.Context(), caller(c), g, user, req.Until)
	})
}

func (s *Server) createChannel(c *gin.Context) (int, any, error) {
	var req protocol.CreateChannel
	return s.groupBody(c, &req, func(g im.GroupID) (protocol.GroupChanged, error) {
		return s.deps.Groups.CreateChannel(c.Request.Context(), caller(c), g, req)
	})
}

func (s *Server) renameChannel(c *gin.Context) (int, any, error) {
	return s.changeChannel(c, func(g im.GroupID, id im.ConversationID) (protocol.GroupChanged, error) {
		var req protocol.RenameChannel
		if err := s.body(c, &req); err != nil {
			return protocol.GroupChanged{}, err
		}
		return s.deps.Groups.RenameChannel(c.Request.Context(), caller(c), g, id, req.Name)
	})
}

func (s *Server) removeChannel(c *gin.Context) (int, any, error) {
	return s.changeChannel(c, func(g im.GroupID, id im.ConversationID) (protocol.GroupChanged, error) {
		return s.deps.Groups.RemoveChannel(c.Request.Context(), caller(c), g, id)
	})
}

func (s *Server) listChannelMembers(c *gin.Context) (int, any, error) {
	g, id, err := channel(c)
	if err != nil {
		return 0, nil, err
	}
	after, limit, err := queryAfter(c)
	if err != nil {
		return 0, nil, err
	}
	page, err := s.deps.Groups.ChannelMembers(c.Request.Context(), caller(c), g, id, im.UserID(after), limit)
	page.Items = list(page.Items)
	return http.StatusOK, page, err
}

func (s *Server) addChannelMembers(c *gin.Context) (int, any, error) {
	return s.changeChannel(c, func(g im.GroupID, id im.ConversationID) (protocol.GroupChanged, error) {
		var req protocol.AddMembers
		if err := s.body(c, &req); err != nil {
			return protocol.GroupChanged{}, err
		}
		return s.deps.Groups.AddToChannel(c.Request.Context(), caller(c), g, id, req)
	})
}

func (s *Server) removeChannelMember(c *gin.Context) (int, any, error) {
	user, err := member(c)
	if err != nil {
		return 0, nil, err
	}
	return s.changeChannel(c, func(g im.GroupID, id im.ConversationID) (protocol.GroupChanged, error) {
		return s.deps.Groups.RemoveFromChannel(c.Request.Context(), caller(c), g, id, user)
	})
}

func (s *Server) changeMember(c *gin.Context, change func(im.GroupID, im.UserID) (protocol.GroupChanged, error)) (int, any, error) {
	user, err := member(c)
	if err != nil {
		return 0, nil, err
	}
	return s.changeGroup(c, func(g im.GroupID) (protocol.GroupChanged, error) { return change(g, user) })
}

func (s *Server) changeChannel(c *gin.Context, change func(im.GroupID, im.ConversationID) (protocol.GroupChanged, error)) (int, any, error) {
	g, id, err := channel(c)
	if err != nil {
		return 0, nil, err
	}
	changed, err := change(g, id)
	return changedStatus(changed), changed, err
}
