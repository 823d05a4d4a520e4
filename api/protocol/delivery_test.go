package protocol

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestDelivery_BatchSurvivesTheRoundTrip(t *testing.T) {
	all := []Delivery{
		{Users: []im.UserID{1, 1 << 52}, Except: "session", Conversation: "d1-2", Seq: im.MaxID, Frame: []byte(`{"push":"message"}`)},
		{Users: []im.UserID{0}, Only: "session", Frame: bytes.Repeat([]byte("x"), 70_000), Close: Close{Code: CloseReplaced, Reason: "elsewhere"}},
		{Request: "r1", Frame: []byte("f")},
		{Users: []im.UserID{7, 9}, Presence: true},
		{Room: "c5", About: 3, ExceptUser: 7, Prior: 2, Version: 9, Join: []im.UserID{1, 2}, Leave: []im.UserID{3}, JoinFirst: 9, LeaveAll: true, Frame: []byte("x"), Conversation: "c5", Seq: 9},
		{Room: "c6", Frame: []byte("x")},
		{},
	}
	var batch []byte
	for i := range all {
		batch = AppendDelivery(batch, &all[i])
	}
	got, err := DecodeDeliveries(batch)
	if err != nil || !reflect.DeepEqual(got, all) {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func FuzzDecodeDeliveries(f *testing.F) {
	f.Add(AppendDelivery(nil, &Delivery{Users: []im.UserID{7}, Only: "s", Conversation: "d1-2", Seq: 3, Frame: []byte("frame"), Request: "r"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := DecodeDeliveries(b)
		if err != nil {
			return
		}
		var again []byte
		for i := range all {
			again = AppendDelivery(again, &all[i])
		}
		got, err := DecodeDeliveries(again)
		if err != nil || len(got) != len(all) {
			t.Fatalf("%d deliveries became %d, %v", len(all), len(got), err)
		}
	})
}
