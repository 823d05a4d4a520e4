package protocol

import (
	"fmt"
	"testing"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest/counts"
)

// The steps of a message that are in this package: what is read and written on the way
// from the sender's frame to the recipient's. Each does a batch of n; most is how often it
// may allocate for that.
var steps = []struct {
	name string
	make func(n int) func()
	most map[int]int // by n
}{
	{"Decode", stepDecode, map[int]int{1: 8, 100: 800}},
	{"Accepted", stepAccepted, map[int]int{1: 2, 100: 200}},
	{"AskOut", stepAskOut, map[int]int{1: 0, 100: 0}},
	{"AskIn", stepAskIn, map[int]int{1: 1, 100: 1}},
	{"ToldOut", stepToldOut, map[int]int{1: 0, 100: 0}},
	{"ToldIn", stepToldIn, map[int]int{1: 1, 100: 1}},
	{"DeliveryOut", stepDeliveryOut, map[int]int{1: 0, 100: 0}},
	{"DeliveryIn", stepDeliveryIn, map[int]int{1: 4, 100: 301}},
}

func BenchmarkStep(b *testing.B) {
	for _, s := range steps {
		for _, n := range []int{1, 10, 100, 500} {
			b.Run(fmt.Sprintf("%s/batch=%d", s.name, n), func(b *testing.B) {
				do := s.make(n)
				m := counts.Start(b)
				for b.Loop() {
					do()
				}
				m.Report(b.N * n)
			})
		}
	}
}

func TestStep_AllocatesNoMoreThanItDid(t *testing.T) {
	for _, s := range steps {
		for n, most := range s.most {
			t.Run(fmt.Sprintf("%s/%d", s.name, n), func(t *testing.T) { counts.Allocs(t, most, s.make(n)) })
		}
	}
}

// times repeats what is done for each message by itself.
func times(n int, one func()) func() {
	return func() {
		for range n {
			one()
		}
	}
}

// stepDecode reads a client's frame: the envelope, checked, and the send in it.
func stepDecode(n int) func() {
	frame := []byte(sendFrame)
	return times(n, func() {
		r, err := DecodeRequest(frame)
		if err != nil {
			panic(err)
		}
		var s Send
		if err := DecodeData(r.Data, &s); err != nil || s.To.UserID == nil {
			panic(err)
		}
	})
}

// stepAccepted writes the answer to it.
func stepAccepted(n int) func() {
	r := Reply{ID: "17", Data: Sent{State: StateAccepted, ConversationID: "d7-9", ClientMsgID: "0123456789abcdef"}}
	return times(n, func() {
		if _, err := EncodeReply(r); err != nil {
			panic(err)
		}
	})
}

// stepAskOut adds frames to a batch that has room, for logic on another machine; stepAskIn
// reads them there.
func stepAskOut(n int) func() {
	a := Ask{Request: 17, Conn: 3, Message: []byte(sendFrame)}
	var batch []byte
	return func() {
		batch = batch[:0]
		for range n {
			batch = AppendAsk(batch, &a)
		}
	}
}

func stepAskIn(n int) func() {
	a := Ask{Request: 17, Conn: 3, Message: []byte(sendFrame)}
	var batch []byte
	for range n {
		batch = AppendAsk(batch, &a)
	}
	return func() {
		if all, err := DecodeAsks(batch); err != nil || len(all) != n {
			panic(err)
		}
	}
}

// stepToldOut and stepToldIn bring the answers back.
func stepToldOut(n int) func() {
	a := Told{Request: 17, Frame: []byte(acceptedFrame)}
	var batch []byte
	return func() {
		batch = batch[:0]
		for range n {
			batch = AppendTold(batch, &a)
		}
	}
}

func stepToldIn(n int) func() {
	a := Told{Request: 17, Frame: []byte(acceptedFrame)}
	var batch []byte
	for range n {
		batch = AppendTold(batch, &a)
	}
	return func() {
		if all, err := DecodeTolds(batch); err != nil || len(all) != n {
			panic(err)
		}
	}
}

const acceptedFrame = `{"id":"17","data":{"state":"accepted","conversation_id":"d7-9","client_msg_id":"0123456789abcdef"}}`

// stepDeliveryOut adds each message's two frames to a node's batch that has room: stored
// for the sender, the message for the recipient. stepDeliveryIn reads them at the node.
func stepDeliveryOut(n int) func() {
	var batch, frame []byte
	return func() { batch, frame = deliveries(batch[:0], frame, n) }
}

func stepDeliveryIn(n int) func() {
	batch, _ := deliveries(nil, nil, n)
	return func() {
		if all, err := DecodeDeliveries(batch); err != nil || len(all) != 2*n {
			panic(err)
		}
	}
}

// Made once, so that no step is charged for them.
var (
	stepUsers   = []im.UserID{1, 2}
	stepContent = []byte(`{"text":"See you at the station at half past seven, the usual place. Bring the long umbrella, it rains again."}`)
)

func deliveries(batch, frame []byte, n int) (newBatch, newFrame []byte) {
	m := im.Message{
		Conversation: "d1-2", Seq: 7, ID: 12345, Sender: im.Sender{ID: 1, Handle: "ann", Nickname: "Ann"}, Type: im.TypeText,
		Content:  stepContent,
		StoredAt: 1767225600123,
	}
	s := Stored{ConversationID: "d1-2", ClientMsgID: "client-0001", Seq: 7, MessageID: 12345, StoredAt: 1767225600123}
	for range n {
		frame = AppendStoredPush(frame[:0], &s)
		batch = AppendDelivery(batch, &Delivery{Users: stepUsers[:1], Frame: frame})
		frame = AppendMessagePush(frame[:0], &m)
		batch = AppendDelivery(batch, &Delivery{Users: stepUsers[1:], Conversation: "d1-2", Seq: 7, Frame: frame})
	}
	return batch, frame
}
