package queue

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/curlew-im/curlew/logic/im"
)

// encodeRare is for the tasks of the lanes delay, retry and dead, whose bodies are JSON.
func encodeRare(t *im.Task) (protowire.Number, []byte, error) {
	field, v := fieldDead, any(t.Dead)
	switch {
	case t.Fire != nil:
		field, v = fieldFire, t.Fire
	case t.Notify != nil:
		field, v = fieldNotify, t.Notify
	}
	body, err := json.Marshal(v)
	if err != nil {
		return 0, nil, fmt.Errorf("encode a task: %w", err)
	}
	return field, body, nil
}

func decodeRare(field protowire.Number, b []byte, t *im.Task) error {
	var v any
	switch field {
	case fieldFire:
		t.Fire = new(im.FireTask)
		v = t.Fire
	case fieldNotify:
		t.Notify = new(im.NotifyTask)
		v = t.Notify
	default:
		t.Dead = new(im.DeadLetter)
		v = t.Dead
	}
	if json.Unmarshal(b, v) != nil {
		return &UndecodableError{"its body is not the JSON it should be"}
	}
	return nil
}
