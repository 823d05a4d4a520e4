package queue

import (
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

func TestTask_SurvivesTheRoundTrip(t *testing.T) {
	bare := sampleSend()
	bare.Send = &im.SendTask{ClientMsgID: "msg-00000002", Type: im.TypeSystem, Content: json.RawMessage(`{}`)}
	for name, task := range map[string]im.Task{
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
	badConversation := sampleSend()
	badConversation.Conversation = "d9-7"
	for name, b := range map[string][]byte{
		"nothing": nil, "another version": append([]byte{2}, send[1:]...), "text": []byte("hello, world"),
		"cut": send[:len(send)-3], "version only": {1}, "send and receipt": both,
		"bad client message ID": good(badID), "conversation not canonical": good(badConversation),
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
	for _, task := range []im.Task{sampleSend(), sampleReceipt()} {
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
