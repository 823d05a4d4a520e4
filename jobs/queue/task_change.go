package queue

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/curlew-im/curlew/logic/im"
)

// Field numbers of changes and deletions; never reused for another meaning.
const (
	fieldActor          protowire.Number = 1
	fieldClientChangeID protowire.Number = 2
	fieldKind           protowire.Number = 3
	fieldSeq            protowire.Number = 4
	fieldNewContent     protowire.Number = 5
	fieldBase           protowire.Number = 6 // plus one: 0 is none
	fieldReaction       protowire.Number = 7
	fieldChangeHash     protowire.Number = 8
	fieldChangeNode     protowire.Number = 9
	fieldChangeRequest  protowire.Number = 10
	fieldManages        protowire.Number = 11

	fieldHideUser protowire.Number = 1
	fieldHideSeq  protowire.Number = 2 // repeated
)

func appendChange(b []byte, c *im.ChangeTask) []byte {
	b = appendNumber(b, fieldActor, uint64(c.Actor))
	b = appendText(b, fieldClientChangeID, string(c.ClientChangeID))
	b = appendText(b, fieldKind, string(c.Kind))
	b = appendNumber(b, fieldSeq, uint64(c.Seq))
	b = appendText(b, fieldNewContent, string(c.Content))
	if c.Base != nil {
		b = appendNumber(b, fieldBase, *c.Base+1)
	}
	b = appendText(b, fieldReaction, c.Reaction)
	b = protowire.AppendTag(b, fieldChangeHash, protowire.BytesType)
	b = protowire.AppendBytes(b, c.Hash[:])
	b = appendText(b, fieldChangeNode, string(c.Origin.Node))
	b = appendText(b, fieldChangeRequest, c.Origin.Request)
	return appendNumber(b, fieldManages, protowire.EncodeBool(c.Manages))
}

func decodeChange(b []byte, c *im.ChangeTask) error {
	err := eachField(b, func(num protowire.Number, text []byte, number uint64) error {
		switch num {
		case fieldActor:
			c.Actor = im.UserID(number)
		case fieldClientChangeID:
			c.ClientChangeID = im.ClientChangeID(text)
		case fieldKind:
			c.Kind = im.ChangeKind(text)
		case fieldSeq:
			c.Seq = im.Seq(number)
		case fieldNewContent:
			c.Content = text
		case fieldBase:
			if number > 0 {
				number--
				c.Base = &number
			}
		case fieldReaction:
			c.Reaction = string(text)
		case fieldChangeHash:
			if len(text) != len(c.Hash) {
				return &UndecodableError{"content hash of a wrong length"}
			}
			copy(c.Hash[:], text)
		case fieldChangeNode:
			c.Origin.Node = im.NodeID(text)
		case fieldChangeRequest:
			c.Origin.Request = string(text)
		case fieldManages:
			c.Manages = protowire.DecodeBool(number)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case c.ClientChangeID.Validate() != nil:
		return &UndecodableError{"not a client change ID"}
	case c.Actor > im.MaxID, c.Seq > im.MaxID:
		return &UndecodableError{"not a user ID or seq"}
	}
	return nil
}

func appendHide(b []byte, h *im.HideTask) []byte {
	b = appendNumber(b, fieldHideUser, uint64(h.User))
	for _, s := range h.Seqs {
		b = appendNumber(b, fieldHideSeq, uint64(s))
	}
	return b
}

func decodeHide(b []byte, h *im.HideTask) error {
	return eachField(b, func(num protowire.Number, _ []byte, number uint64) error {
		switch {
		case number > im.MaxID:
			return &UndecodableError{"not a user ID or seq"}
		case num == fieldHideUser:
			h.User = im.UserID(number)
		case num == fieldHideSeq && number > 0:
			h.Seqs = append(h.Seqs, im.Seq(number))
		}
		return nil
	})
}
