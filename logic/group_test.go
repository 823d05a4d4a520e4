package logic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// gathered is a world where ann owns a group with bob in it.
func gathered() *world {
	w := newWorld()
	g := im.Group{ID: team, Name: "waders", Owner: ann, Main: "c3", Members: 2, JoinPolicy: im.JoinOpen, Version: 4}
	w.change = im.GroupChange{Group: g}
	w.view = im.GroupView{Group: g, Role: im.RoleOwner, Channels: []im.Channel{{ID: "c3", Group: team}, {ID: harbour, Group: team, Name: "harbour", Private: true}}}
	w.seats = map[seatKey]im.Seat{
		{ann, harbour}: {Group: team, Role: im.RoleOwner, In: true},
		{bob, harbour}: {Group: team, Role: im.RoleMember, In: true},
	}
	w.channels = map[im.ConversationID]im.ChannelInfo{harbour: {Channel: im.Channel{ID: harbour, Group: team, Name: "harbour", Private: true},
		GroupName: "waders", GroupAvatar: "https://example.org/w.png", GroupMain: "c3"}}
	w.among = map[im.UserID]bool{ann: true, bob: true}
	return w
}

// leaving is how bob's removal is told.
func leaving(ids ...im.OpID) (ops []im.GroupOp) {
	for _, id := range ids {
		ops = append(ops, im.GroupOp{ID: id, Conversation: im.ChannelConversation(uint64(id)),
			Notice:     im.Notice{Kind: im.NoticeRemoved, GroupID: team, Users: []im.NoticeUser{{ID: bob, Nickname: "bob"}}, Count: 1},
			Membership: im.Membership{Op: id, Group: team, Leave: []im.UserID{bob}}})
	}
	return ops
}

// groupCalls is one good call of each kind of change; it says how the store is asked.
var groupCalls = []struct {
	call  func(ctx context.Context, s *Service) (protocol.GroupChanged, error)
	asked string
	limit string
}{
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.CreateGroup(ctx, annsPhone, protocol.CreateGroup{Name: " waders ", Members: []im.UserID{bob, eve, bob, ann}, ClientGroupID: "abcdefgh"})
	}, "CreateGroup {7 waders  closed false [9 11] abcdefgh}", "groups"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		name := "ducks"
		return s.UpdateGroup(ctx, annsPhone, team, protocol.UpdateGroup{Name: &name})
	}, "UpdateGroup 7 3 ducks", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.DissolveGroup(ctx, annsPhone, team)
	}, "DissolveGroup 7 3", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.AddMembers(ctx, annsPhone, team, protocol.AddMembers{UserIDs: []im.UserID{eve, bob, eve}})
	}, "AddMembers 7 3 [9 11]", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.RemoveMember(ctx, annsPhone, team, bob)
	}, "RemoveMember 7 3 9", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.SetRole(ctx, annsPhone, team, bob, im.RoleAdmin)
	}, "SetRole 7 3 9 admin", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.TransferGroup(ctx, annsPhone, team, bob)
	}, "TransferGroup 7 3 9", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.MuteMember(ctx, annsPhone, team, bob, im.MutedForever)
	}, "MuteMember 7 3 9 9007199254740991", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.JoinGroup(ctx, annsPhone, team, protocol.JoinGroup{Message: " hi "})
	}, "AskToJoin 7 3 hi", "group_joins"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return protocol.GroupChanged{}, s.WithdrawJoin(ctx, annsPhone, team)
	}, "WithdrawJoin 7 3", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.DecideJoin(ctx, annsPhone, team, bob, false)
	}, "DecideJoin 7 3 9 false", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.CreateChannel(ctx, annsPhone, team, protocol.CreateChannel{Name: "harbour", Private: true, Members: []im.UserID{bob, ann}})
	}, "CreateChannel 7 3 {harbour true [9]}", "groups"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.RenameChannel(ctx, annsPhone, team, harbour, "quay")
	}, "RenameChannel 7 3 c4 quay", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.RemoveChannel(ctx, annsPhone, team, harbour)
	}, "RemoveChannel 7 3 c4", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.AddToChannel(ctx, annsPhone, team, harbour, protocol.AddMembers{UserIDs: []im.UserID{bob}})
	}, "AddToChannel 7 3 c4 [9]", "group_changes"},
	{func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
		return s.RemoveFromChannel(ctx, annsPhone, team, harbour, ann)
	}, "RemoveFromChannel 7 3 c4 7", "group_changes"},
}

func TestGroups_EachChangeIsAskedOfTheStoreAndErrorsComeBack(t *testing.T) {
	for _, c := range groupCalls {
		name, _, _ := strings.Cut(c.asked, " ")
		w := gathered()
		got, err := c.call(t.Context(), w.service(t, Config{}))
		if err != nil || !slices.Equal(w.asked, []string{c.asked}) {
			t.Errorf("%s: asked %q, %v", name, w.asked, err)
		}
		if name != "WithdrawJoin" && (!got.Applied || got.Group.Role != im.RoleOwner || len(got.Group.Channels) != 2) {
			t.Errorf("%s: %+v", name, got)
		}
		for want, prep := range map[string]func(*world){
			"forbidden":          func(w *world) { w.fail[name] = im.ErrForbidden },
			"membership_pending": func(w *world) { w.fail[name] = im.ErrPending },
			"store_unavailable":  func(w *world) { w.hang[name] = true },
			"rate_limited":       func(w *world) { w.take = func(int) (int, time.Duration) { return 0, time.Second } },
		} {
			w := gathered()
			prep(w)
			_, err := c.call(t.Context(), w.service(t, Config{StoreTimeout: 50 * time.Millisecond}))
			if codeOf(err) != want {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
			var limit *im.LimitError
			if errors.As(err, &limit) && limit.Limit != c.limit {
				t.Errorf("%s: limited by %s, want %s", name, limit.Limit, c.limit)
			}
		}
	}
}

func TestGroups_WhatIsNoGoodIsRefusedBeforeTheStore(t *testing.T) {
	many := make([]im.UserID, im.MaxMembersPerCall+1)
	long := strings.Repeat("x", im.MaxGroupNameBytes+1)
	policy := im.JoinPolicy("anyone")
	avatar := "javascript:alert(1)"
	create := func(change func(*protocol.CreateGroup)) func(context.Context, *Service) (protocol.GroupChanged, error) {
		req := protocol.CreateGroup{Name: "waders"}
		change(&req)
		return func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			return s.CreateGroup(ctx, annsPhone, req)
		}
	}
	update := func(u protocol.UpdateGroup) func(context.Context, *Service) (protocol.GroupChanged, error) {
		return func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			return s.UpdateGroup(ctx, annsPhone, team, u)
		}
	}
	for name, c := range map[string]struct {
		call func(context.Context, *Service) (protocol.GroupChanged, error)
		want string
	}{
		"no name":             {create(func(r *protocol.CreateGroup) { r.Name = " " }), "invalid_request"},
		"a long name":         {create(func(r *protocol.CreateGroup) { r.Name = long }), "invalid_request"},
		"two lines":           {create(func(r *protocol.CreateGroup) { r.Name = "a\nb" }), "invalid_request"},
		"a turned name":       {create(func(r *protocol.CreateGroup) { r.Name = "a\u202eb" }), "invalid_request"},
		"a bad word":          {create(func(r *protocol.CreateGroup) { r.Name = "damn" }), "content_refused"},
		"a bad word, new":     {update(protocol.UpdateGroup{Name: ptr("damn")}), "content_refused"},
		"too many at once":    {create(func(r *protocol.CreateGroup) { r.Members = many }), "invalid_request"},
		"the system":          {create(func(r *protocol.CreateGroup) { r.Members = []im.UserID{0} }), "invalid_request"},
		"another policy":      {create(func(r *protocol.CreateGroup) { r.JoinPolicy = policy }), "invalid_request"},
		"another policy, new": {update(protocol.UpdateGroup{JoinPolicy: &policy}), "invalid_request"},
		"a script for a face": {update(protocol.UpdateGroup{Avatar: &avatar}), "invalid_request"},
		"nothing new":         {update(protocol.UpdateGroup{}), "invalid_request"},
		"a short ID":          {create(func(r *protocol.CreateGroup) { r.ClientGroupID = "a" }), "invalid_request"},
		"nobody added": {func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			return s.AddMembers(ctx, annsPhone, team, protocol.AddMembers{})
		}, "invalid_request"},
		"a third role": {func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			return s.SetRole(ctx, annsPhone, team, bob, im.RoleOwner)
		}, "invalid_request"},
		"muted until yesterday": {func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			return s.MuteMember(ctx, annsPhone, team, bob, 1)
		}, "invalid_request"},
		"muted until before": {func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			return s.MuteMember(ctx, annsPhone, team, bob, -1)
		}, "invalid_request"},
		"a long message": {func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			return s.JoinGroup(ctx, annsPhone, team, protocol.JoinGroup{Message: strings.Repeat("x", 201)})
		}, "invalid_request"},
		"a bad message": {func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			return s.JoinGroup(ctx, annsPhone, team, protocol.JoinGroup{Message: "damn"})
		}, "content_refused"},
		"named, of a public one": {func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			return s.CreateChannel(ctx, annsPhone, team, protocol.CreateChannel{Name: "x", Members: []im.UserID{bob}})
		}, "invalid_request"},
		"a one-to-one as a channel": {func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			return s.RemoveChannel(ctx, annsPhone, team, "d7-9")
		}, "not_found"},
		"members of a one-to-one": {func(ctx context.Context, s *Service) (protocol.GroupChanged, error) {
			_, err := s.ChannelMembers(ctx, annsPhone, team, "d7-9", 0, 0)
			return protocol.GroupChanged{}, err
		}, "not_found"},
	} {
		w := gathered()
		w.say = func(s string) (string, error) {
			if s == "damn" {
				return "", im.ErrContentRefused
			}
			return s, nil
		}
		if _, err := c.call(t.Context(), w.service(t, Config{})); codeOf(err) != c.want || len(w.asked) != 0 {
			t.Errorf("%s: %v, asked %q", name, err, w.asked)
		}
	}
}

func TestGroups_TheLogIsToldAsTheSystemTells(t *testing.T) {
	w := gathered()
	w.change.Ops = leaving(4, 5)
	s := w.service(t, Config{})
	w.produce = func(task im.Task, done func(error)) {
		frame, _ := protocol.EncodePush(protocol.PushFrame{Push: protocol.PushStored, Data: protocol.Stored{ConversationID: task.Conversation, Seq: 4}})
		s.waiters.hear(protocol.AppendDelivery(nil, &protocol.Delivery{Request: task.Send.Origin.Request, Frame: frame}))
		go done(nil)
	}
	got, err := s.RemoveMember(t.Context(), annsPhone, team, bob)
	if err != nil || !got.Applied || len(s.waiters.notes) != 0 {
		t.Fatalf("%+v, %v, %d wait", got, err, len(s.waiters.notes))
	}
	tasks := w.produced()
	if len(tasks) != 2 || tasks[0].Conversation != "c4" || tasks[1].Conversation != "c5" {
		t.Fatalf("%+v", tasks)
	}
	task := tasks[1].Send
	content := `{"kind":"removed","group_id":"3","users":[{"id":"9","nickname":"bob"}],"count":1}`
	if task.Sender.ID != im.SystemUser || task.ClientMsgID != "curlew-op-5" || task.Type != im.TypeNotice || string(task.Content) != content ||
		task.Hash != im.HashContent(im.TypeNotice, json.RawMessage(content)) || task.Uncounted != im.UncountedForAll || task.AdvanceRead ||
		task.Origin.Node != "n1" || task.Membership.Op != 5 || !slices.Equal(task.Membership.Leave, []im.UserID{bob}) {
		t.Errorf("%+v, %s", task, task.Content)
	}
}

// removing runs a removal of two notices in a bubble, whose clock moves only when
// everything waits, and returns how long it took.
func removing(t *testing.T, arrange func(w *world, s *Service)) (got protocol.GroupChanged, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := gathered()
		w.change.Ops = leaving(4, 5)
		s := w.serviceAt(t, Config{}, time.Now)
		arrange(w, s)
		start := time.Now()
		var err error
		if got, err = s.RemoveMember(t.Context(), annsPhone, team, bob); err != nil {
			t.Error(err)
		}
		took = time.Since(start)
		if n := len(s.waiters.notes); n != 0 {
			t.Errorf("%d waiters left", n)
		}
	})
	return got, took
}

func TestGroups_AppliedMeansThatAllNoticesAreStored(t *testing.T) { // [L11]
	key := func(n uint64) im.SendKey {
		return im.SendKey{Conversation: im.ChannelConversation(n), ClientMsgID: im.OpID(n).ClientMsgID()}
	}
	stored := func(w *world, after time.Duration, ns ...uint64) {
		go func() {
			time.Sleep(after)
			w.set(func() {
				for _, n := range ns {
					w.stored[key(n)] = im.StoredRef{Seq: 4}
				}
			})
		}()
	}
	note := func(s *Service, task im.Task, push protocol.PushFrame) {
		frame, _ := protocol.EncodePush(push)
		s.waiters.hear(protocol.AppendDelivery(nil, &protocol.Delivery{Request: task.Send.Origin.Request, Frame: frame}))
	}
	for name, c := range map[string]struct {
		arrange func(w *world, s *Service)
		applied bool
		took    time.Duration
	}{
		"one note is lost": {func(w *world, s *Service) {
			stored(w, 0, 4)
			w.produce = func(task im.Task, done func(error)) {
				go done(nil)
				if task.Conversation == "c5" {
					note(s, task, protocol.PushFrame{Push: protocol.PushStored, Data: protocol.Stored{ConversationID: task.Conversation, Seq: 4}})
				}
			}
		}, true, firstLook},
		"both notes are lost":        {func(w *world, _ *Service) { stored(w, 2*time.Second, 4, 5) }, true, secondLook},
		"one is not stored":          {func(w *world, _ *Service) { stored(w, 0, 4) }, false, answerBy},
		"MySQL is away":              {func(w *world, _ *Service) { w.fail["FindStored"] = im.ErrStore }, false, answerBy},
		"the log does not take them": {func(w *world, _ *Service) { w.produce = func(_ im.Task, done func(error)) { go done(im.ErrQueue) } }, false, 0},
		"the log may have taken them": {func(w *world, _ *Service) {
			stored(w, 0, 4, 5)
			w.produce = func(_ im.Task, done func(error)) { go done(im.ErrUnknownOutcome) }
		}, true, firstLook},
		"too many wait: the table says": {func(w *world, s *Service) { s.waiters.bound = 0; stored(w, 0, 4, 5) }, true, firstLook},
		"one is rejected": {func(w *world, s *Service) {
			w.produce = func(task im.Task, done func(error)) {
				go done(nil)
				note(s, task, protocol.PushFrame{Push: protocol.PushRejected, Data: protocol.Rejected{ConversationID: task.Conversation, Code: "unstorable"}})
			}
		}, false, 0},
	} {
		if got, took := removing(t, c.arrange); got.Applied != c.applied || took != c.took {
			t.Errorf("%s: applied %t after %s, want %t after %s", name, got.Applied, took, c.applied, c.took)
		}
	}
}

func TestGroups_WhatIsLeftOverIsToldAgain(t *testing.T) { // [L11]
	synctest.Test(t, func(t *testing.T) {
		w := gathered()
		first := make([]im.GroupOp, 0, opsPage)
		for i := range opsPage {
			first = append(first, leaving(im.OpID(i+1))...)
		}
		w.pending = [][]im.GroupOp{first, leaving(1000)}
		s := w.serviceAt(t, Config{}, time.Now)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.Run(ctx)
		time.Sleep(opsQuiet - 1)
		synctest.Wait()
		if n := len(w.produced()); n != 0 {
			t.Errorf("%d told at once", n)
		}
		time.Sleep(1)
		synctest.Wait()
		tasks := w.produced()
		if len(tasks) != opsPage+1 || tasks[opsPage].Send.ClientMsgID != "curlew-op-1000" || tasks[0].Send.Origin != (im.Origin{}) {
			t.Errorf("%d told again", len(tasks))
		}
		w.set(func() { w.fail["PendingOps"] = im.ErrStore })
		time.Sleep(2 * opsQuiet)
		synctest.Wait()
		if n := len(w.produced()); n != opsPage+1 {
			t.Errorf("%d told", n)
		}
	})
}

func TestGroups_WhoHasLeftSeesTheGroupFromOutside(t *testing.T) {
	w := gathered()
	w.fail["Group"] = im.ErrNotFound
	got, err := w.service(t, Config{}).RemoveMember(t.Context(), annsPhone, team, ann)
	if err != nil || got.Group.Name != "waders" || got.Group.Role != "" || got.Group.Channels != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestGroups_PagesSayWhoIsThere(t *testing.T) {
	w := gathered()
	w.roster = []im.GroupMember{{User: bob, Role: im.RoleAdmin, MutedUntil: 5, JoinedAt: 6}, {User: nobody, Role: im.RoleMember}}
	w.waiting = []im.JoinRequestRow{{User: eve, Message: "hi", AskedAt: 7}, {User: bob}}
	s, ctx := w.service(t, Config{}), t.Context()
	for name, page := range map[string]func() (protocol.GroupMembers, error){
		"group":   func() (protocol.GroupMembers, error) { return s.GroupMembers(ctx, annsPhone, team, 0, 0) },
		"channel": func() (protocol.GroupMembers, error) { return s.ChannelMembers(ctx, annsPhone, team, harbour, 0, 0) },
	} {
		got, err := page()
		want := []protocol.GroupMember{{User: w.users[bob], Role: im.RoleAdmin, MutedUntil: 5, JoinedAt: 6}, {User: im.Profile{ID: nobody}, Role: im.RoleMember}}
		if err != nil || fmt.Sprint(got.Items) != fmt.Sprint(want) || got.HasMore {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := s.GroupMembers(ctx, annsPhone, team, 0, 1); err != nil || !got.HasMore || got.Next != "9" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.JoinRequests(ctx, annsPhone, team, 0, 1); err != nil || got.Next != "11" || got.Items[0].User != w.users[eve] || got.Items[0].Message != "hi" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Groups(ctx, annsPhone, 0, 1); err != nil || got.Next != "3" || len(got.Items) != 1 || !got.Items[0].Channels[0].Main || got.Items[0].Channels[1].Main {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := s.Group(ctx, annsPhone, team); err != nil || got.OwnerID != ann {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.Groups(ctx, annsPhone, 0, -1); codeOf(err) != "invalid_request" {
		t.Error(err)
	}
	w.fail["GroupMembers"] = im.ErrNotFound
	if _, err := s.GroupMembers(ctx, annsPhone, team, 0, 1); codeOf(err) != "not_found" {
		t.Error(err)
	}
}
