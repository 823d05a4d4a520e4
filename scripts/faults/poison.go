package main

import (
	"bytes"
	crand "crypto/rand"
	"encoding/json"
	"errors"

	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
)

var (
	errNotStored = errors.New("not stored yet")
	errNotParked = errors.New("not a dead letter yet")
)

// poison is one record that nobody of ours writes.
type poison struct {
	kind  string
	value []byte
}

// huge is above what a record may be, and below what a broker takes.
const huge = queue.MaxTaskBytes + 64<<10

// poisons are one of each kind: garbage, above the limit, and whole in their envelope with
// a body that can never be stored, most of them in a conversation that exists, by somebody
// who is in it.
func poisons(run string, conv im.ConversationID, sender im.UserID) ([]poison, error) {
	noise := make([]byte, 300)
	crand.Read(noise)
	all := []poison{
		{"nothing", nil},
		{"noise", noise},
		{"noise above the limit", bytes.Repeat([]byte{1}, huge)},
	}
	for _, p := range []struct {
		kind    string
		conv    im.ConversationID
		sender  im.UserID
		what    im.MessageType
		content []byte
	}{
		{"a message above the limit", conv, sender, im.TypeText, text(string(bytes.Repeat([]byte("x"), huge)))},
		{"a body that is cut off", conv, sender, im.TypeText, []byte(`{"text":"x`)},
		{"a body that is no UTF-8", conv, sender, im.TypeText, []byte("{\"text\":\"\xff\xfe\"}")},
		{"a message of no known type", conv, sender, "x-poison", text("x")},
		{"a message by a stranger", conv, 1, im.TypeText, text("x")},
		{"a message to nowhere", im.ChannelConversation(1 << 40), sender, im.TypeText, text("x")},
	} {
		b, err := queue.AppendTask(nil, &im.Task{Conversation: p.conv, Send: &im.SendTask{
			Sender: im.Sender{ID: p.sender, Handle: "poison"}, ClientMsgID: im.ClientMsgID(run + "-" + random()),
			Type: p.what, Content: json.RawMessage(p.content),
		}})
		if err != nil {
			return nil, err
		}
		all = append(all, poison{p.kind, b})
	}
	whole := all[len(all)-1].value
	return append(all, poison{"a record that is cut off", whole[:len(whole)/2]}), nil
}
