package api

import (
	"slices"
	"strings"
	"testing"
)

// groupRequests are the operations of groups, receipts' counts among them, with how each
// reaches logic.
var groupRequests = map[string]string{
	"listGroups":          "groups 2 20",
	"createGroup":         "create 7 Waders [12] request true 01JF2K9M7G",
	"updateGroup":         "update 7 3 true true",
	"dissolveGroup":       "dissolve 7 3",
	"listGroupMembers":    "members 3 7 0",
	"addGroupMembers":     "add 7 3 [12 15]",
	"removeGroupMember":   "remove 7 3 7", // "me"
	"setRole":             "role 7 3 12 admin",
	"muteMember":          "mute 7 3 12 1792846180000",
	"transferGroup":       "transfer 7 3 12",
	"joinGroup":           "join 7 3 curlew here",
	"withdrawJoin":        "withdraw 7 3",
	"listJoinRequests":    "requests 3 0 5",
	"acceptJoin":          "decide 7 3 12 true",
	"refuseJoin":          "decide 7 3 12 false",
	"createChannel":       "channel 7 3 ringing true [12]",
	"renameChannel":       "rename 7 3 c4 rings",
	"removeChannel":       "remove channel 7 3 c4",
	"listChannelMembers":  "channel members 3 c4 7 9",
	"addChannelMembers":   "add to 7 3 c4 [12]",
	"removeChannelMember": "remove from 7 3 c4 12",
	"receiptCounts":       "counts c4 [3 4]",
	"recipients":          "recipients c4 42 undelivered 7 0",
}

func TestGroups_RequestsReachLogicAsAsked(t *testing.T) {
	f := newFace(t)
	for id, asked := range groupRequests {
		f.asked = nil
		want(t, id, f.do(goodRequests[id].request), goodRequests[id].status, "")
		if !slices.Equal(f.asked, []string{asked + "\n"}) {
			t.Errorf("%s: asked %q, want %q", id, f.asked, asked)
		}
	}
}

func TestGroups_StatusSaysWhetherEveryoneIsTold(t *testing.T) {
	f := newFace(t)
	f.late = true
	for id := range groupRequests {
		status := goodRequests[id].status
		if goodRequests[id].method != "GET" && status == 200 {
			status = 202
		}
		want(t, id, f.do(goodRequests[id].request), status, "")
	}
}

func TestGroups_GarbageIsInvalidAndNeverReachesLogic(t *testing.T) {
	f := newFace(t)
	ids := []string{"abc", "-1", "07", "*", "9007199254740992", "18446744073709551616", "me2", "7:8", "c4", strings.Repeat("9", 500)}
	var bad []request
	for _, id := range ids {
		for op := range groupRequests {
			r := goodRequests[op].request
			path, query, _ := strings.Cut(r.path, "?")
			parts := strings.Split(path, "/")
			for i, part := range parts {
				if i < 3 || part != "3" && part != "12" && part != "me" && (part != "c4" || id == "c4") && (part != "42" || id == "07") {
					continue
				}
				other := slices.Clone(parts)
				other[i] = id
				bad = append(bad, request{method: r.method, path: strings.Join(other, "/") + "?" + query, body: r.body})
			}
		}
		if id == "c4" {
			continue
		}
		for _, q := range []string{"after=", "limit="} {
			for _, path := range []string{"/v1/groups", "/v1/groups/3/members", "/v1/groups/3/requests", "/v1/groups/3/channels/c4/members"} {
				bad = append(bad, request{method: "GET", path: path + "?" + strings.Replace(q+id, q+"07", q+"+7", 1)})
			}
		}
	}
	for body, ops := range map[string][]string{
		`{"name":7}`:                                     {"createGroup", "updateGroup", "createChannel", "renameChannel"},
		`{"user_ids":["12"],"user_ids":["15"]}`:          {"addGroupMembers", "addChannelMembers"},
		`{"name":"x","members":["12"],"members":["15"]}`: {"createGroup", "createChannel"},
		`{"role":"admin","role":"member"}`:               {"setRole"},
		`{"until":0,"until":1792846180000}`:              {"muteMember"},
		`{"name":"x","members":[12]}`:                    {"createGroup", "createChannel"},
		`{"name":"x","members":["-1"]}`:                  {"createGroup", "createChannel"},
		`{"name":"x","members":"12"}`:                    {"createGroup", "createChannel"},
		`{"name":"x","private":"yes"}`:                   {"createChannel"},
		`{"muted_all":"yes"}`:                            {"updateGroup"},
		`{"join_policy":{}}`:                             {"updateGroup"},
		`{"user_ids":[12]}`:                              {"addGroupMembers", "addChannelMembers"},
		`{"user_ids":["07"]}`:                            {"addGroupMembers", "addChannelMembers"},
		`{"user_ids":{"0":"12"}}`:                        {"addGroupMembers", "addChannelMembers"},
		`{"user_id":12}`:                                 {"transferGroup"},
		`{}`:                                             {"transferGroup"},
		`{"role":1}`:                                     {"setRole"},
		`{"until":"soon"}`:                               {"muteMember"},
		`{"until":1.5}`:                                  {"muteMember"},
		`{"until":1e400}`:                                {"muteMember"},
		`{"message":["hi"]}`:                             {"joinGroup"},
		`[]`:                                             {"createGroup", "updateGroup", "addGroupMembers", "setRole", "muteMember", "transferGroup", "joinGroup", "createChannel", "renameChannel"},
		`{"name":"x"}{"name":"y"}`:                       {"createGroup", "updateGroup", "joinGroup"},
		strings.Repeat("[", 100_000):                     {"createGroup", "joinGroup"},
		"{\"name\":\"\xff\"}":                            {"createGroup", "renameChannel"},
		`{"name":"\ud800"}`:                              {"createGroup", "renameChannel"},
	} {
		for _, op := range ops {
			r := goodRequests[op].request
			r.body = body
			bad = append(bad, r)
		}
	}
	for _, q := range []string{"", "?seq=", "?seq=-1", "?seq=x", "?seq=1.5", "?seq=3&seq=", "?seq=9007199254740992", "?" + strings.Repeat("seq=1&", 101)} {
		bad = append(bad, request{method: "GET", path: "/v1/conversations/c4/receipts" + q})
	}
	for _, q := range []string{"?state=read&state=delivered", "?state=read&after=x", "?state=read&limit=0"} {
		bad = append(bad, request{method: "GET", path: "/v1/conversations/c4/messages/42/receipts" + q})
	}
	for _, q := range []string{"?merged_at=3", "?epoch=g&version=3&merged_at=-1", "?epoch=g&version=3&merged_at=x"} {
		bad = append(bad, request{method: "GET", path: "/v1/sync" + q})
	}
	for _, r := range bad {
		r.auth = asUser
		f.asked = nil
		want(t, r.method+" "+r.path+" "+r.body[:min(len(r.body), 60)], f.do(r), 400, "invalid_request")
		if len(f.asked) > 0 {
			t.Errorf("%s %s reached logic: %q", r.method, r.path, f.asked)
		}
	}
}

func TestGroups_NobodyIsServedWithoutAToken(t *testing.T) {
	f := newFace(t)
	for id := range groupRequests {
		for _, auth := range []string{"", "Bearer bad", asServer} {
			r := goodRequests[id].request
			r.auth = auth
			want(t, id, f.do(r), 401, "unauthenticated")
		}
	}
	if len(f.asked) > 0 {
		t.Errorf("reached logic: %q", f.asked)
	}
}

func TestSync_KeepsWhenMergedChannelsWereSeen(t *testing.T) {
	f := newFace(t)
	want(t, "sync", f.do(goodRequests["sync"].request), 200, "")
	if p := f.lastSync.Position; p == nil || p.MergedAt != 1767225600000001 || p.Version != 3 {
		t.Errorf("asked from %+v", p)
	}
}
