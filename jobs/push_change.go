package jobs

import (
	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// changed tells everyone that a change has its number, and what the message now says.
// Who asked for it is told what became of it first: a change that could not be made
// any more is rejected, and still moves everybody's position. Everyone are two sides, or
// who is in the room.
func (p *pusher) changed(c *change, sides []im.UserID, room *roster) {
	if err := c.err(); err != nil {
		p.refused(c.conv, c.task, err)
		if c.conflict {
			return // its number is another's
		}
	}
	if room != nil {
		p.changedRoom(c, room)
		return
	}
	for i, u := range sides {
		waiting := u == c.task.Actor && c.task.Origin.Request != "" && c.err() == nil
		if i == 1 && u == sides[0] || len(p.sessions[u]) == 0 && !waiting {
			continue
		}
		data := protocol.Changed{ConversationID: c.conv, Change: c.ref.Change, Kind: c.task.Kind, UserID: c.task.Actor, Reaction: c.task.Reaction}
		if c.err() == nil && c.message != nil {
			m := c.message.ForReader(u)
			data.Message = &m
		}
		if u == c.task.Actor {
			data.ClientChangeID = c.task.ClientChangeID
		}
		frame := p.encode(protocol.PushChanged, data)
		if waiting {
			p.note(c.task.Origin, frame)
		}
		p.users(protocol.PushChanged, u, protocol.Delivery{Frame: frame})
	}
}

// refused tells who asked that an accepted change has changed nothing.
func (p *pusher) refused(conv im.ConversationID, t *im.ChangeTask, cause error) {
	e := protocol.NewError(cause)
	frame := p.encode(protocol.PushRejected, protocol.Rejected{
		ConversationID: conv, ClientChangeID: t.ClientChangeID, Code: e.Code, Message: e.Message,
	})
	p.note(t.Origin, frame)
	p.users(protocol.PushRejected, t.Actor, protocol.Delivery{Frame: frame})
}

// deleted tells the user's devices what one of them has deleted.
func (p *pusher) deleted(h *hide) {
	if len(h.items) == 0 || len(p.sessions[h.User]) == 0 {
		return
	}
	p.users(protocol.PushDeleted, h.User, protocol.Delivery{
		Frame: p.encode(protocol.PushDeleted, protocol.Deleted{ConversationID: h.Conversation, Items: h.items}),
	})
}
