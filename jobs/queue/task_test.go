package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/curlew-im/curlew/logic/im"
)

func sampleSend() im.Task {
	content := json.RawMessage(`{"text":"hé ✓"}`)
	return im.Task{Conversation: "d7-9", Send: &im.SendTask{
		Sender:      im.Sender{ID: 7, Handle: "ann", Nickname: "Ann", Avatar: "https://a.example/a.png"},
		ClientMsgID: "msg-00000001", Type: im.TypeText, Content: content, Hash: im.HashContent(im.TypeText, content),
		Uncounted: im.UncountedForSender, AdvanceRead: true, AcceptedAt: 1767225600123,
		Origin: im.Origin{Node: "node", Session: "session", Request: "request"},
	}}
}

func sampleReceipt() im.Task {
	return im.Task{Conversation: "d7-9", Receipt: &im.ReceiptTask{User: 9, Device: "phone", Delivered: 12, Read: 11}}
}

func sampleChange(base *uint64) im.Task {
	return im.Task{Conversation: "d7-9", Change: &im.ChangeTask{
		Actor: 9, ClientChangeID: "change-0001", Kind: im.ChangeEdit, Seq: 12, Content: json.RawMessage(`{"text":"✓"}`), Base: base,
		Reaction: "👍", Hash: im.ContentHash{1, 2}, Origin: im.Origin{Node: "node", Request: "request"},
	}}
}

func sampleNotice() im.Task {
	content := json.RawMessage(`{"kind":"joined","group_id":"5"}`)
	return im.Task{Conversation: "c5", Send: &im.SendTask{
		Sender: im.Sender{ID: im.SystemUser, Handle: "system"}, ClientMsgID: im.OpID(7).ClientMsgID(), Type: im.TypeNotice,
		Content: content, Hash: im.HashContent(im.TypeNotice, content), Uncounted: im.UncountedForAll,
		Membership: &im.Membership{Op: 7, Group: 5, Join: []im.UserID{1, im.MaxID}, Leave: []im.UserID{9}, History: true},
	}}
}

func TestTask_SurvivesTheRoundTrip(t *testing.T) {
	bare := sampleSend()
	bare.Send = &im.SendTask{ClientMsgID: "msg-00000002", Type: im.TypeSystem, Content: json.RawMessage(`{}`)}
	about := sampleSend()
	about.Send.About = im.About{
		ReplyTo:       &im.Quote{Seq: 3, Sender: im.Sender{ID: 9, Handle: "bob", Nickname: "Bob"}, Type: im.TypeText, Text: "what?"},
		ForwardedFrom: &im.ForwardedFrom{Nickname: "Eve"}, Mentions: []im.UserID{9, 11},
	}
	everyone, closing, renamed := sampleNotice(), sampleNotice(), sampleNotice()
	everyone.Send.Membership = &im.Membership{Op: 8, Group: im.MaxID, JoinAll: true}
	closing.Send.Membership = &im.Membership{Op: 9, Group: 5, LeaveAll: true}
	renamed.Send.Membership = &im.Membership{}
	all := sampleSend()
	all.Send.About = im.About{MentionsAll: true}
	managed := sampleChange(nil)
	managed.Change.Manages = true
	none, some := uint64(0), uint64(7)
	for name, task := range map[string]im.Task{
		"notice": sampleNotice(), "everyone joins": everyone, "everyone leaves": closing, "nobody moves": renamed,
		"mentions all": all, "by who manages": managed,
		"about": about, "recall": sampleChange(nil), "edit of the first": sampleChange(&none), "edit": sampleChange(&some),
		"hide": {Conversation: "d7-9", Hide: &im.HideTask{User: 7, Seqs: []im.Seq{1, 2, 300}}},
		"send": sampleSend(), "bare send": bare, "receipt": sampleReceipt(),
		"empty receipt": {Conversation: "c5", Receipt: &im.ReceiptTask{User: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := AppendTask(nil, &task)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeTask(b)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, task) {
				t.Fatalf("got %+v %+v, want %+v %+v", got, got.Send, task, task.Send)
			}
		})
	}
}

func TestTask_UnknownFieldsAreSkipped(t *testing.T) {
	task := sampleSend()
	b, _ := AppendTask(nil, &task)
	b = protowire.AppendTag(b, 900, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, 1)
	b = protowire.AppendTag(b, 901, protowire.BytesType)
	b = protowire.AppendString(b, "from a later version")
	got, err := DecodeTask(b)
	if err != nil || !reflect.DeepEqual(got, task) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestTask_WhatIsNoTaskIsUndecodable(t *testing.T) {
	good := func(t im.Task) []byte { b, _ := AppendTask(nil, &t); return b }
	send := good(sampleSend())
	both := append(append([]byte{}, send...), good(sampleReceipt())[1:]...)
	badID := sampleSend()
	badID.Send.ClientMsgID = "short"
	badChange := sampleChange(nil)
	badChange.Change.ClientChangeID = "short"
	farMember := sampleNotice()
	farMember.Send.Membership.Join[0] = im.MaxID + 1
	badConversation := sampleSend()
	badConversation.Conversation = "d9-7"
	large := sampleSend()
	large.Send.Content = bytes.Repeat([]byte("x"), MaxTaskBytes)
	for name, b := range map[string][]byte{
		"nothing": nil, "another version": append([]byte{2}, send[1:]...), "text": []byte("hello, world"),
		"cut": send[:len(send)-3], "version only": {1}, "send and receipt": both,
		"above the limit":        good(large),
		"a member who cannot be": good(farMember),
		"bad client change ID":   good(badChange), "bad client message ID": good(badID), "conversation not canonical": good(badConversation),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeTask(b)
			var bad *UndecodableError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestAppendTask_NeedsExactlyOneBody(t *testing.T) {
	both := sampleSend()
	both.Receipt = sampleReceipt().Receipt
	for _, task := range []im.Task{{Conversation: "d7-9"}, both} {
		if _, err := AppendTask(nil, &task); err == nil {
			t.Fatalf("%+v was encoded", task)
		}
	}
}

func FuzzDecodeTask(f *testing.F) {
	hide := im.Task{Conversation: "c5", Hide: &im.HideTask{User: 7, Seqs: []im.Seq{1}}}
	for _, task := range []im.Task{sampleSend(), sampleReceipt(), sampleNotice(), sampleChange(nil), hide} {
		b, _ := AppendTask(nil, &task)
		f.Add(b)
	}
	f.Add([]byte(strings.Repeat("\x01\x0a", 20)))
	f.Fuzz(func(t *testing.T, b []byte) {
		task, err := DecodeTask(b)
		if err != nil {
			return
		}
		again, err := AppendTask(nil, &task)
		if err != nil {
			t.Fatalf("decoded but not encoded: %+v: %v", task, err)
		}
		got, err := DecodeTask(again)
		if err != nil || !reflect.DeepEqual(normal(got), normal(task)) {
			t.Fatalf("%+v became %+v, %v", task, got, err)
		}
	})
}

// normal makes an empty content equal to an absent one.
func normal(t im.Task) im.Task {
	if t.Send != nil && len(t.Send.Content) == 0 {
		t.Send.Content = nil
	}
	if t.Change != nil && len(t.Change.Content) == 0 {
		t.Change.Content = nil
	}
	return t
}

func BenchmarkTask(b *testing.B) {
	task := sampleSend()
	record, _ := AppendTask(nil, &task)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, 1024)
		for b.Loop() {
			buf, _ = AppendTask(buf[:0], &task)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeTask(record); err != nil {
				b.Fatal(err)
			}
		}
	})
}
