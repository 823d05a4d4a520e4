package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/logic/im"
)

// pair are two users connected to one connector.
type pair struct {
	wires [2]*wire
	other im.UserID // to whom the first writes
	came  chan string
	n     int
}

// pair connects two new users to p.
func (c *cluster) pair(ctx context.Context, p *process) (*pair, error) {
	ids, err := upsert(ctx, c.backend(), "open-"+random()[:8], 2)
	if err != nil {
		return nil, err
	}
	two := &pair{other: ids[1], came: make(chan string, 1024)}
	for i, id := range ids {
		t, err := c.backend().IssueTokens(ctx, protocol.IssueTokens{UserID: &id, Device: "open"})
		if err != nil {
			return nil, err
		}
		w, err := dial(ctx, "ws://"+p.listen+"/v1/ws")
		if err != nil {
			return nil, err
		}
		two.wires[i] = w
		go w.read(func(a answer) {
			var m im.Message
			if i == 1 && a.Push == protocol.PushMessage && json.Unmarshal(a.Data, &m) == nil {
				select {
				case two.came <- show(m).token:
				default: // nobody waits any more
				}
			}
		})
		if _, err := w.ask(ctx, protocol.CmdConnect, protocol.Connect{Token: t.AccessToken, Device: "open"}, nil); err != nil {
			return nil, err
		}
	}
	return two, nil
}

func (two *pair) end() {
	for _, w := range two.wires {
		w.end()
	}
}

// talk has the first write to the second, and returns how long it took to come.
func (two *pair) talk(ctx context.Context) (time.Duration, error) {
	two.n++
	token := fmt.Sprintf("open-%d", two.n)
	began := time.Now()
	m := protocol.Send{ClientMsgID: client.NewClientMsgID(), To: client.ToUser(two.other), Content: text(token)}
	if _, err := two.wires[0].ask(ctx, protocol.CmdSend, m, nil); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		select {
		case got := <-two.came:
			if got == token {
				return time.Since(began), nil
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// keepTalking talks until ctx ends: nothing of it may fail.
func (two *pair) keepTalking(ctx context.Context, t *tally) {
	for said := 0; ; said++ {
		took, err := two.talk(ctx)
		switch {
		case err == nil:
			t.sample("talk_s", 0, took.Seconds())
		case ctx.Err() == nil:
			t.add("stuck", "message %d between two who were connected before: %v", said, err)
			return
		default:
			t.broke(said > 0 || t.last(), "nothing was said while the descriptors were used up")
			return
		}
		_ = pause(ctx, 100*time.Millisecond) // ctx is asked next
	}
}
