package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/curlew-im/curlew/api/admin"
	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/client"
	"github.com/curlew-im/curlew/jobs/queue"
	"github.com/curlew-im/curlew/logic/im"
	"github.com/curlew-im/curlew/scripts/devtest"
)

// deads runs `curlew dead …` and returns what it says.
func (e *engine) deads(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	o := &operator{base: e.admin, load: func() (admin.Config, error) { return e.cfg.Admin, nil }, out: &out}
	cmd := o.deadCommand()
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// listed are the IDs that `curlew dead list` shows.
func (e *engine) listed(t *testing.T, args ...string) (ids []string) {
	t.Helper()
	out, err := e.deads(t, append([]string{"list"}, args...)...)
	must(t, err)
	return regexp.MustCompile(`(?m)^\d+`).FindAllString(out, -1)
}

// given is a message that was given up though nothing is wrong with it any more.
func (e *engine) given(t *testing.T, from *person, conv im.ConversationID, id im.ClientMsgID, text string) string {
	t.Helper()
	content := []byte(fmt.Sprintf(`{"text":%q}`, text))
	task := im.Task{Conversation: conv, Send: &im.SendTask{
		Sender: im.Sender{ID: from.id, Handle: from.name, Nickname: from.name}, ClientMsgID: id, Type: im.TypeText, Content: content,
		Hash: im.HashContent(im.TypeText, content), AdvanceRead: true, AcceptedAt: time.Now().UnixMilli(),
	}}
	b, err := queue.AppendTask(nil, &task)
	must(t, err)
	before := e.listed(t)
	must(t, e.db.Park(t.Context(), im.DeadLetter{
		Topic: e.cluster.Topic(im.LaneRealtime), Partition: 0, Offset: 1<<40 + time.Now().UnixNano()%1e9, Reason: "failed repeatedly: a column too short",
		Attempts: 10, Key: im.SendKey{Conversation: conv, Sender: from.id, ClientMsgID: id}, Hash: task.Send.Hash, Payload: b, ParkedAt: time.Now().UnixMilli(),
	}))
	for _, id := range e.listed(t) {
		if !slices.Contains(before, id) {
			return id
		}
	}
	t.Fatal("it is not listed")
	return ""
}

func TestDead_AMessageIsListedReadReplayedOnceOrDiscarded(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	adas, bobs := ada.connect("phone"), bob.connect("phone")
	adas.say(bob, "before")

	id := e.given(t, ada, conv, "given-up-1", "given up")
	if out, err := e.deads(t, "list"); err != nil || !strings.Contains(out, "a column too short") || !strings.Contains(out, "given-up-1") || strings.Contains(out, "given up ") {
		t.Errorf("list: %v\n%s", err, out)
	}
	if out, err := e.deads(t, "show", id); err != nil || !strings.Contains(out, "message") || strings.Contains(out, `"text`) {
		t.Errorf("show: %v\n%s", err, out)
	}
	if out, err := e.deads(t, "show", id, "--payload"); err != nil || !strings.Contains(out, "given up") {
		t.Errorf("show --payload: %v\n%s", err, out)
	}
	must(t, second(e.deads(t, "replay", id)))
	devtest.Eventually(t, "Bob has it", func() bool { return slices.Contains(bobs.texts(conv), "given up") })
	if _, err := e.deads(t, "replay", id); !refusedWith(err, "conflict") {
		t.Errorf("a second replay: %v", err)
	}
	again := textTo(bob.id, "given up")
	again.ClientMsgID = "given-up-1"
	sent, err := ada.http.Send(t.Context(), again, true)
	if err != nil || sent.Seq != 2 {
		t.Errorf("the same again: %+v %v", sent, err)
	}
	adas.say(bob, "after")
	if got := bob.history(conv); len(got) != 3 {
		t.Errorf("history: %+v", got)
	}

	id = e.given(t, ada, conv, "given-up-2", "never mind")
	must(t, second(e.deads(t, "discard", id)))
	if _, err := e.deads(t, "replay", id); !refusedWith(err, "conflict") {
		t.Errorf("replayed after: %v", err)
	}
	if open, all := e.listed(t), e.listed(t, "--state", "all"); len(open) != 0 || len(all) != 2 {
		t.Errorf("open %v, all %v", open, all)
	}
	if n := counted(e, `curlew_jobs_dead_letters_total{deed="replayed"}`); n != 1 {
		t.Errorf("%v replayed", n)
	}

	// Who replayed it died on the way.
	id = e.given(t, ada, conv, "given-up-4", "hanging")
	n, err := im.ParseDeadID(id)
	must(t, err)
	must(t, e.db.ClaimDead(t.Context(), n))
	if still := e.listed(t); !slices.Equal(still, []string{id}) {
		t.Errorf("listed %v, want %s", still, id)
	}
}

func TestDead_WhatWasSaidAgainSinceIsNotDoubled(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	id := e.given(t, ada, conv, "given-up-3", "are you there?")
	resent, err := ada.http.Send(t.Context(), textTo(bob.id, "are you there?"), true)
	must(t, err)
	_, err = e.deads(t, "replay", id)
	if !refusedWith(err, "resent_since") {
		t.Errorf("%v", err)
	}
	r := call{method: http.MethodPost, path: "/v1/admin/dead/" + id + "/replay"}.do(t, e.admin, "")
	if r.status != http.StatusConflict || !bytes.Contains(r.body, fmt.Appendf(nil, `"client_msg_id":%q`, resent.ClientMsgID)) {
		t.Errorf("%d %s", r.status, r.body)
	}
	if out, err := e.deads(t, "replay", "--all"); err == nil || !strings.Contains(out, "resent_since") {
		t.Errorf("all: %v\n%s", err, out)
	}
	if got := bob.history(conv); len(got) != 1 {
		t.Errorf("history: %+v", got)
	}
	must(t, second(e.deads(t, "replay", id, "--force")))
	devtest.Eventually(t, "it is said twice", func() bool { return len(bob.history(conv)) == 2 })
}

// What was never a task goes to the table in its turn, while its neighbours flow.
func TestDead_PoisonIsReadAndDiscarded(t *testing.T) {
	t.Parallel()
	e := startEngine(t, devtest.Start(t))
	ada, bob, conv := e.pair(t)
	adas := ada.connect("phone")
	adas.say(bob, "before")
	for range 3 {
		answer := make(chan error, 1)
		e.producer.Produce(im.Task{Conversation: conv, Send: &im.SendTask{Sender: im.Sender{ID: ada.id}, ClientMsgID: client.NewClientMsgID(),
			Type: im.TypeText, Content: []byte(`{"text":`), AcceptedAt: time.Now().UnixMilli()}}, func(err error) { answer <- err })
		must(t, <-answer)
	}
	adas.say(bob, "after")
	devtest.Eventually(t, "they are listed", func() bool { return len(e.listed(t, "--lane", "realtime")) == 3 })
	id := e.listed(t)[0]
	if out, err := e.deads(t, "show", id, "--payload"); err != nil || !strings.Contains(out, "content is not JSON") {
		t.Errorf("%v\n%s", err, out)
	}
	// Replayed it is poison still.
	must(t, second(e.deads(t, "replay", id)))
	devtest.Eventually(t, "it is back", func() bool { return len(e.listed(t)) == 3 && !slices.Contains(e.listed(t), id) })
	must(t, second(e.deads(t, append([]string{"discard"}, e.listed(t)...)...)))
	if got := bob.history(conv); len(got) != 2 || len(e.listed(t)) != 0 {
		t.Errorf("history %+v, open %v", got, e.listed(t))
	}
}

func TestDead_NotificationsThatWereRefusedAreReplayed(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	e := startEngine(t, devtest.Start(t), r.wired)
	ada, bob, _ := e.pair(t)
	bob.reachable()
	r.answers(http.StatusBadRequest)
	_, err := ada.http.Send(t.Context(), textTo(bob.id, "hello"), true)
	must(t, err)
	devtest.Eventually(t, "it is listed", func() bool { return len(e.listed(t, "--lane", "retry")) == 1 })
	out, err := e.deads(t, "list")
	if err != nil || !strings.Contains(out, "answered 400") {
		t.Errorf("%v\n%s", err, out)
	}
	r.answers(http.StatusOK)
	must(t, second(e.deads(t, "replay", "--all", "--lane", "retry", "--contains", "400")))
	r.hears(t, "token-of-bob: hello")
	if open := e.listed(t); len(open) != 0 {
		t.Errorf("open: %v", open)
	}
	var page admin.DeadLetters
	must(t, (&operator{base: e.admin, load: func() (admin.Config, error) { return e.cfg.Admin, nil }}).
		ask(t.Context(), http.MethodGet, "/v1/admin/dead?state=replayed", nil, &page))
	if len(page.Items) != 1 || page.Items[0].Attempts != 1 || page.Items[0].ActedAt == 0 {
		t.Errorf("%+v", page.Items)
	}
}

// second is the error of a pair.
func second(_ string, err error) error { return err }

func refusedWith(err error, code string) bool {
	var e *protocol.Error
	return errors.As(err, &e) && e.Code == code
}
