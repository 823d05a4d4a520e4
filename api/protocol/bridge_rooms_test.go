package protocol

import (
	"reflect"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
)

func TestBridgeRooms_WhatIsAskedAndAnsweredArrives(t *testing.T) {
	q := RoomsQuestion{Users: []im.UserID{1, 1 << 60}, Room: "c7"}
	if got, err := DecodeRoomsQuestion(AppendRoomsQuestion(nil, &q)); err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("question %+v, %v", got, err)
	}
	rooms := map[im.UserID][]im.Room{1: {{Conversation: "c7", Version: 3, First: 1}, {Conversation: "c8"}}, 9: {{Conversation: "c7", Version: 4, First: 4}}}
	if got, err := DecodeRoomsOf(AppendRoomsOf(nil, rooms)); err != nil || !reflect.DeepEqual(got, rooms) {
		t.Errorf("rooms %+v, %v", got, err)
	}
	first := map[im.UserID]im.Seq{5: 0, 6: 1 << 50}
	if v, got, err := DecodeRoomMembers(AppendRoomMembers(nil, 12, first)); err != nil || v != 12 || !reflect.DeepEqual(got, first) {
		t.Errorf("members %d %+v, %v", v, got, err)
	}
}

func FuzzBridgeRooms(f *testing.F) {
	f.Add(AppendRoomsQuestion(nil, &RoomsQuestion{Users: []im.UserID{1}, Room: "c7"}))
	f.Add(AppendRoomsOf(nil, map[im.UserID][]im.Room{1: {{Conversation: "c7", Version: 3, First: 1}}}))
	f.Add(AppendRoomMembers(nil, 12, map[im.UserID]im.Seq{5: 2}))
	f.Fuzz(func(_ *testing.T, b []byte) { // nothing panics
		_, _ = DecodeRoomsQuestion(b)
		_, _ = DecodeRoomsOf(b)
		_, _, _ = DecodeRoomMembers(b)
	})
}
