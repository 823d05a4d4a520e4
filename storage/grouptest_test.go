package storage

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func newUsers(t testing.TB, db *DB, n int) []im.UserID {
	users := make([]im.UserID, n)
	for i := range users {
		users[i] = newUser(t, db)
	}
	return users
}

// newGroup is a group whose members are in its main channel.
func newGroup(t testing.TB, db *DB, g im.NewGroup) im.Group {
	t.Helper()
	if g.Name == "" {
		g.Name = "Bird watchers 🐦"
	}
	if g.JoinPolicy == "" {
		g.JoinPolicy = im.JoinClosed
	}
	change, err := db.CreateGroup(context.Background(), g)
	must(t, err)
	storeOps(t, db, change)
	return change.Group
}

// storeOps stores the notices of a change as strands do, and returns their messages.
func storeOps(t testing.TB, db *DB, change im.GroupChange) []im.Message {
	t.Helper()
	var stored []im.Message
	for _, op := range change.Ops {
		m := opMessage(t, op, nextSeq(t, db, op.Conversation))
		must(t, db.InsertMessages(context.Background(), []im.Message{m}))
		stored = append(stored, m)
	}
	return stored
}

func opMessage(t testing.TB, op im.GroupOp, seq im.Seq) im.Message {
	t.Helper()
	content, err := json.Marshal(op.Notice)
	must(t, err)
	m := message(op.Conversation, seq, im.SystemUser)
	m.ClientMsgID, m.Type, m.Content, m.Uncounted, m.Membership = op.ID.ClientMsgID(), im.TypeNotice, content, im.UncountedForAll, &op.Membership
	m.Hash = im.HashContent(m.Type, m.Content)
	return m
}

func nextSeq(t testing.TB, db *DB, c im.ConversationID) im.Seq {
	t.Helper()
	lasts, err := db.Lasts(context.Background(), []im.ConversationID{c})
	must(t, err)
	return lasts[c].Seq + 1
}

// say stores a text at the end of a conversation.
func say(t testing.TB, db *DB, c im.ConversationID, from im.UserID) im.Message {
	t.Helper()
	m := message(c, nextSeq(t, db, c), from)
	must(t, db.InsertMessages(context.Background(), []im.Message{m}))
	return m
}

// done stores what a change has to tell, and fails the test on an error of it.
func done(t testing.TB, db *DB, change im.GroupChange, err error) im.GroupChange {
	t.Helper()
	must(t, err)
	storeOps(t, db, change)
	return change
}

func newChannel(t testing.TB, db *DB, actor im.UserID, g im.GroupID, n im.NewChannel) im.ConversationID {
	t.Helper()
	if n.Name == "" {
		n.Name = "feathers"
	}
	ch, change, err := db.CreateChannel(context.Background(), actor, g, n)
	must(t, err)
	storeOps(t, db, change)
	return ch.ID
}

func member(t testing.TB, db *DB, c im.ConversationID, u im.UserID) im.Member {
	t.Helper()
	m, err := db.Member(context.Background(), c, u)
	must(t, err)
	return m
}

// count reads one number.
func count(t testing.TB, db *DB, query string, args ...any) (n int) {
	t.Helper()
	must(t, db.r.QueryRowContext(context.Background(), query, args...).Scan(&n))
	return n
}
