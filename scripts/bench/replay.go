package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/replay/irc"
)

// replay is a closed loop over real chat: what speakers said to each other by name, in
// the order of the logs and over again, each speaker at a connection of their own. Texts,
// and who talks how much to whom, are as in the logs; the pace is not.
func (b *bench) replay(ctx context.Context, data string) (Result, error) {
	speakers, lines, err := irc.Read(os.DirFS(data))
	if err != nil {
		return Result{}, err
	}
	if len(lines) == 0 {
		return Result{}, fmt.Errorf("no messages in %s", data)
	}
	all, err := b.people(ctx, "replay", len(speakers))
	if err != nil {
		return Result{}, err
	}
	index := make(map[string]int, len(speakers))
	for i, name := range speakers {
		index[name] = i
	}
	texts := make([]string, len(lines))
	for i, l := range lines {
		quoted, err := json.Marshal(l.Text)
		if err != nil {
			return Result{}, err
		}
		texts[i] = " " + string(quoted[1:len(quoted)-1])
	}
	var (
		r       *room
		turn    atomic.Int64
		stopped atomic.Bool
		told    = make([]map[im.UserID]int64, len(all)) // by sender: how many to each
	)
	for i := range told {
		told[i] = make(map[im.UserID]int64)
	}
	speak := func() *talker {
		i := int((turn.Add(1) - 1) % int64(len(lines)))
		l := &lines[i]
		from, to := index[l.From], all[index[l.To]].user
		t := r.talkers[all[from].user]
		t.tell(time.Now(), to, told[from], texts[i])
		return t
	}
	next := func(*talker, im.UserID) *talker {
		if stopped.Load() {
			return nil
		}
		return speak()
	}
	if r, err = b.enter(ctx, all, next); err != nil {
		return Result{}, err
	}
	defer r.leave()
	for range b.users * b.window {
		_ = speak().flush() // its reader sees the end
	}
	from, to, received, err := b.measure(ctx, "replay", r, b.warm, b.span)
	stopped.Store(true)
	r.settle(ctx, r.said())
	res := b.result("replay", "message", from, to, received, r.delays())
	res.Setting = fmt.Sprintf("%d speakers, %d messages of real chat over again, %d in flight", len(speakers), len(lines), b.users*b.window)
	due := make(map[*talker]map[im.UserID]int64)
	for i, counts := range told {
		for user, n := range counts {
			t := r.talkers[user]
			if due[t] == nil {
				due[t] = make(map[im.UserID]int64)
			}
			due[t][all[i].user] = n
		}
	}
	res.Faults = r.faultsOf(due)
	return res, errors.Join(err, r.problem())
}

// tell puts a message to somebody into the talker's buffer; told counts them.
func (t *talker) tell(at time.Time, to im.UserID, told map[im.UserID]int64, text string) {
	t.mu.Lock()
	t.buf = appendSend(t.buf[:0], t.sent+2, toUser(to), t.room.run, t.user, told[to], at.Sub(t.room.epoch).Microseconds(), text)
	t.sent++
	told[to]++
	t.put(t.buf)
	t.mu.Unlock()
}
