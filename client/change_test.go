package client

import (
	"fmt"
	"testing"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

func changedTo(n uint64, seq im.Seq) protocol.Changed {
	m := message(seq, peer, "")
	m.Change = n
	return protocol.Changed{ConversationID: talk, Change: n, Kind: im.ChangeEdit, UserID: peer, Message: &m}
}

// [C5] A change that follows is told; a hole is pulled, page by page, before what comes
// after it, and what is known already is not told again.
func TestChanges_HolesArePulled(t *testing.T) {
	told := make(chan string, 16)
	socket := serveFake(t, func(l link, r protocol.Request) (any, error) {
		switch r.Cmd {
		case protocol.CmdConnect:
			l.push(t, protocol.PushChanged, changedTo(3, 1)) // next
			l.push(t, protocol.PushChanged, changedTo(2, 1)) // known
			none := changedTo(4, 1)
			none.Message = nil
			l.push(t, protocol.PushChanged, none)            // a number alone
			l.push(t, protocol.PushChanged, changedTo(9, 2)) // 5 to 8 are missing
			l.push(t, protocol.PushChanged, changedTo(10, 1))
			l.push(t, protocol.PushRejected, protocol.Rejected{ConversationID: talk, ClientChangeID: "change-01", Code: "recalled"})
		case protocol.CmdHistory:
			switch upTo := uint64(7); *dataOf[protocol.History](t, r).AfterChange {
			case 4:
				return protocol.Page{Items: []im.Message{*changedTo(6, 3).Message}, HasMore: true, Change: &upTo}, nil
			case 7:
				upTo = 9
				return protocol.Page{Items: []im.Message{*changedTo(9, 2).Message}, Change: &upTo}, nil
			default:
				t.Errorf("asked for %+v", dataOf[protocol.History](t, r))
			}
		}
		return nil, nil
	})
	start(t, Options{Socket: socket, Have: map[im.ConversationID]im.Seq{talk: 3}, HaveChanged: map[im.ConversationID]ChangedUpTo{talk: {Change: 2}},
		OnChanged:        func(m im.Message) { told <- fmt.Sprint(m.Seq, " at ", m.Change) },
		OnChangeRejected: func(r protocol.Rejected) { told <- r.Code },
	})
	for _, want := range []string{"1 at 3", "3 at 6", "2 at 9", "1 at 10", "recalled"} {
		if got := soon(t, want, told); got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	}
}

// [C5] What was changed and deleted while a device was away shows by the numbers of its
// list, and is asked for from where it was.
func TestChanges_ComeWithTheSync(t *testing.T) {
	told := make(chan string, 16)
	socket := serveFake(t, func(l link, r protocol.Request) (any, error) {
		switch r.Cmd {
		case protocol.CmdSync:
			return protocol.Synced{Position: at(2), Conversations: []protocol.Conversation{{ConversationID: talk, LastSeq: 3, LastChange: 5, Deletions: 2}}}, nil
		case protocol.CmdHistory:
			upTo := uint64(5)
			if after := *dataOf[protocol.History](t, r).AfterChange; after != 4 {
				t.Errorf("changes after %d", after)
			}
			return protocol.Page{Items: []im.Message{*changedTo(5, 1).Message}, Change: &upTo}, nil
		case protocol.CmdDeletions:
			if a := dataOf[protocol.AskDeletions](t, r); a.After != 1 || a.ConversationID != talk {
				t.Errorf("deletions after %+v", a)
			}
			l.push(t, protocol.PushDeleted, protocol.Deleted{ConversationID: talk, Items: []im.Hidden{{Seq: 3, Deletion: 2}, {Seq: 1, Deletion: 3}}})
			return protocol.Deletions{Items: []im.Hidden{{Seq: 3, Deletion: 2}}}, nil
		}
		return nil, nil
	})
	position := at(1)
	start(t, Options{Socket: socket, Have: map[im.ConversationID]im.Seq{talk: 3}, Position: &position,
		HaveChanged: map[im.ConversationID]ChangedUpTo{talk: {Change: 4, Deletion: 1}},
		OnChanged:   func(m im.Message) { told <- fmt.Sprint(m.Seq, " at ", m.Change) },
		OnDeleted:   func(_ im.ConversationID, seq im.Seq) { told <- fmt.Sprint(seq, " deleted") },
	})
	for _, want := range []string{"1 at 5", "3 deleted", "1 deleted"} {
		if got := soon(t, want, told); got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	}
}
