package protocol

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/curlew-im/curlew/logic/im"
)

var bridgeSession = im.Session{ID: "s1", Node: "n1", IP: "::1", Since: 1790000000001, Policy: im.DevicesOne, Identity: im.Identity{User: im.MaxID, Device: "d", Platform: "web",
	ExpiresAt: 1790000000000, TokenVersion: 1<<32 - 1, DeviceVersion: 7}}

func TestBridge_BatchesArriveAsTheyLeft(t *testing.T) {
	asks := []Ask{
		{Request: 1, Conn: 9, Hello: &Hello{Session: "s1", Node: "n1", IP: "::1"}, Message: []byte("hello")},
		{Request: 2, Conn: 9, Session: &bridgeSession, Message: []byte{0, 0xff}},
		{Request: 1<<64 - 1, Conn: 1<<64 - 1, Message: make([]byte, 70_000)},
		{Conn: 9, Gone: true},
	}
	tolds := []Told{
		{Request: 1, Session: &bridgeSession, Frame: []byte("welcome")},
		{Request: 2, Identity: &bridgeSession.Identity},
		{Request: 3, Frame: []byte("no"), Close: Close{Code: 4401, Reason: "expired"}},
		{Draining: true},
		{Request: 4, Frame: []byte("seen"), Watch: []Watch{{User: 7, State: "+ios"}, {User: 9}, {User: 11, End: true}}},
		{Revoked: []im.Revocation{{ID: 1 << 60, User: 7, Device: "d", DeviceVersion: 9}, {ID: 2, User: 7, TokenVersion: 3}, {ID: 3, User: 7, Hidden: 9}}},
	}
	var up, down []byte
	for i := range asks {
		up = AppendAsk(up, &asks[i])
	}
	for i := range tolds {
		down = AppendTold(down, &tolds[i])
	}
	if got, err := DecodeAsks(up); err != nil || !reflect.DeepEqual(got, asks) {
		t.Errorf("asks %+v, %v", got, err)
	}
	if got, err := DecodeTolds(down); err != nil || !reflect.DeepEqual(got, tolds) {
		t.Errorf("tolds %+v, %v", got, err)
	}
}

func TestBridge_UnknownFieldsOfANewerVersionAreSkipped(t *testing.T) {
	body := protowire.AppendTag(nil, 99, protowire.Fixed64Type)
	body = protowire.AppendFixed64(body, 1)
	body = protowire.AppendTag(body, 98, protowire.BytesType)
	body = protowire.AppendString(body, "new")
	body = appendUint(body, askRequest, 5)
	got, err := DecodeAsks(protowire.AppendBytes(nil, body))
	if err != nil || len(got) != 1 || got[0].Request != 5 {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzBridge(f *testing.F) {
	f.Add(AppendAsk(nil, &Ask{Request: 1, Session: &bridgeSession, Message: []byte("m")}))
	f.Add(AppendTold(nil, &Told{Request: 1, Session: &bridgeSession, Frame: []byte("m")}))
	f.Fuzz(func(t *testing.T, batch []byte) {
		if asks, err := DecodeAsks(batch); err == nil {
			var again []byte
			for i := range asks {
				again = AppendAsk(again, &asks[i])
			}
			if twice, err := DecodeAsks(again); err != nil || len(twice) != len(asks) {
				t.Errorf("%v: %d, then %d", err, len(asks), len(twice))
			}
		}
		_, _ = DecodeTolds(batch)
	})
}
