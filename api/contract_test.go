package api

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"

	"github.com/curlew-im/curlew/api/protocol"
	"github.com/curlew-im/curlew/logic/im"
)

// constants reads the values of api/protocol's constants of one type.
func constants(t *testing.T, typ string) (values []string) {
	t.Helper()
	fset := token.NewFileSet()
	for _, name := range []string{"protocol/frame.go", "protocol/codes.go"} {
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == typ {
				values = append(values, strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
			}
			return true
		})
	}
	if len(values) == 0 {
		t.Fatalf("no constants of type %s", typ)
	}
	slices.Sort(values)
	return values
}

type asyncContract struct {
	Channels struct {
		Socket struct {
			Messages map[string]any
		}
	}
	Operations map[string]struct {
		Action   string
		Messages []ref
		Reply    struct{ Messages []ref }
	}
	Components struct {
		Messages map[string]struct {
			Examples []struct{ Payload any }
		}
		Schemas map[string]any
	}
	CloseCodes map[int]string `yaml:"x-close-codes"`
}

type ref struct {
	Ref string `yaml:"$ref"`
}

func (r ref) name() string { return r.Ref[strings.LastIndex(r.Ref, "/")+1:] }

// loadAsync reads the socket's contract, and its payloads as schemas that can be
// tried, those of openapi.yaml among them.
func loadAsync(t *testing.T) (async asyncContract, schemas *openapi3.T) {
	t.Helper()
	raw, err := contracts.ReadFile("asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, &async); err != nil {
		t.Fatal(err)
	}
	read := func(b []byte) (doc map[string]any) {
		b = []byte(strings.ReplaceAll(string(b), "./openapi.yaml#", "#"))
		if err := yaml.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		return doc
	}
	open, err := contracts.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	of := func(doc map[string]any, kind string) map[string]any {
		return doc["components"].(map[string]any)[kind].(map[string]any)
	}
	maps.Copy(all, of(read(open), "schemas"))
	httpError := all["Error"]
	maps.Copy(all, of(read(raw), "schemas"))
	all["SocketError"], all["Error"] = all["Error"], httpError
	for name, m := range of(read(raw), "messages") {
		all["frame_"+name] = m.(map[string]any)["payload"]
	}
	doc, err := json.Marshal(map[string]any{
		"openapi": "3.0.3", "info": map[string]any{"title": "x", "version": "1"}, "paths": map[string]any{},
		"components": map[string]any{"schemas": all},
	})
	if err != nil {
		t.Fatal(err)
	}
	doc = []byte(strings.ReplaceAll(string(doc), `"error":{"$ref":"#/components/schemas/Error"}`, `"error":{"$ref":"#/components/schemas/SocketError"}`))
	schemas, err = openapi3.NewLoader().LoadFromData(doc)
	if err != nil {
		t.Fatal(err)
	}
	return async, schemas
}

// [A6]
func TestSocketContract_HasEveryCommandPushAndCloseCode(t *testing.T) {
	async, _ := loadAsync(t)
	var commands, pushes, codes []string
	used := map[string]bool{}
	for name, op := range async.Operations {
		for _, m := range append(op.Messages, op.Reply.Messages...) {
			used[m.name()] = true
		}
		switch op.Action {
		case "receive":
			commands = append(commands, name)
			if len(op.Messages) != 1 || op.Messages[0].name() != name || len(op.Reply.Messages) != 2 || op.Reply.Messages[1].name() != "error" {
				t.Errorf("operation %s: %+v", name, op)
			}
		case "send":
			for _, m := range op.Messages {
				pushes = append(pushes, strings.TrimSuffix(m.name(), "_push"))
			}
		}
	}
	for code := range async.CloseCodes {
		codes = append(codes, strconv.Itoa(code))
	}
	for typ, said := range map[string][]string{"Command": commands, "Push": pushes, "CloseCode": codes} {
		slices.Sort(said)
		if known := constants(t, typ); !slices.Equal(said, known) {
			t.Errorf("%s: asyncapi.yaml has %v, the code %v", typ, said, known)
		}
	}
	for name := range async.Components.Messages {
		if !used[name] || async.Channels.Socket.Messages[name] == nil {
			t.Errorf("message %s belongs to no operation or is not on the channel", name)
		}
	}
}

func TestSocketContract_ExamplesAreWhatTheyShow(t *testing.T) {
	async, schemas := loadAsync(t)
	for name, m := range async.Components.Messages {
		for _, example := range m.Examples {
			raw, err := json.Marshal(example.Payload)
			if err != nil {
				t.Fatal(err)
			}
			tryFrame(t, schemas, name, raw)
			if strings.Contains(string(raw), `"cmd"`) {
				if _, err := protocol.DecodeRequest(raw); err != nil {
					t.Errorf("%s: the example is refused: %v", name, err)
				}
			}
		}
	}
}

func TestSocketContract_FramesOfTheCodecKeepIt(t *testing.T) {
	_, schemas := loadAsync(t)
	f := &fake{}
	synced, _ := f.Sync(t.Context(), im.Identity{}, protocol.Sync{})
	for name, data := range map[string]any{
		"connected":      protocol.Connected{SessionID: "s", User: curlew, Limits: f.Limits()},
		"sent":           protocol.Sent{State: protocol.StateStored, ConversationID: "d7-12", ClientMsgID: "01JF2K9M7Q", Seq: 42, MessageID: &message.ID, StoredAt: 1},
		"acked":          protocol.Receipt{ConversationID: "d7-12", Seq: 42},
		"synced":         synced,
		"page":           protocol.Page{Items: []im.Message{message}},
		"refreshed":      protocol.Refreshed{ExpiresAt: 1},
		"presences":      protocol.Presences{Items: []protocol.Presence{{UserID: 12, Online: true}}},
		"typed":          protocol.Typing{ConversationID: "d7-12"},
		"taken":          protocol.ChangeAnswer{State: protocol.StateStored, ConversationID: "d7-12", ClientChangeID: "01JF2K9M7Z", Change: 5},
		"deletions_page": protocol.Deletions{Items: []im.Hidden{{Seq: 3, Deletion: 1}}},
		"deleting":       protocol.DeleteMessages{ConversationID: "d7-12", Seqs: []im.Seq{1}},
		"pong":           protocol.Pong{Conversations: []protocol.Digest{{ConversationID: "c9"}}},
		"settled":        settings,
	} {
		frame, err := protocol.EncodeReply(protocol.Reply{ID: "1", Data: data})
		if err != nil {
			t.Fatal(err)
		}
		tryFrame(t, schemas, name, frame)
	}
	frame, _ := protocol.EncodeReply(protocol.Reply{ID: "1", Error: protocol.NewSendError(im.ErrOverloaded)})
	tryFrame(t, schemas, "error", frame)
	for push, data := range map[protocol.Push]any{
		protocol.PushMessage:  message,
		protocol.PushStored:   protocol.Stored{ConversationID: "d7-12", ClientMsgID: "01JF2K9M7Q", Seq: 42, MessageID: message.ID},
		protocol.PushRejected: protocol.Rejected{ConversationID: "d7-12", ClientMsgID: "01JF2K9M7Q", Code: "unstorable"},
		protocol.PushReceipt:  protocol.CursorMoved{ConversationID: "d7-12", UserID: 12, DeliveredSeq: 3},
		protocol.PushReadSelf: protocol.CursorMoved{ConversationID: "d7-12", UserID: 7, ReadSeq: 3},
		protocol.PushKicked:   protocol.Kicked{Code: "unauthenticated"},
		protocol.PushContact:  protocol.ContactChanged{Kind: im.ContactRequested, Contact: asking},
		protocol.PushChanged: protocol.Changed{ConversationID: "d7-12", Change: 5, Kind: im.ChangeReact, UserID: 7, Reaction: "👍",
			ClientChangeID: "01JF2K9M7Z", Message: &changed},
		protocol.PushDeleted:  protocol.Deleted{ConversationID: "d7-12", Items: []im.Hidden{{Seq: 3, Deletion: 1}}},
		protocol.PushPresence: protocol.Presence{UserID: 12, LastSeen: 1, Platforms: []string{"ios"}},
		protocol.PushSettings: settings,
		protocol.PushTyping:   protocol.TypingNow{ConversationID: "d7-12", UserID: 12, On: true, ExpiresMS: protocol.TypingExpires},
		protocol.PushNudge:    struct{}{},
	} {
		frame, err := protocol.EncodePush(protocol.PushFrame{Push: push, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		name := string(push)
		if schemas.Components.Schemas["frame_"+name+"_push"] != nil { // a command has the bare name
			name += "_push"
		}
		tryFrame(t, schemas, name, frame)
	}
}

// changed has everything that a message may have.
var changed = im.Message{
	Conversation: "d7-12", Seq: 42, ID: 104942118400, Sender: curlew.Sender(), Type: im.TypeText, Content: json.RawMessage(`{"text":"x"}`), StoredAt: 1,
	About: im.About{ReplyTo: &im.Quote{Seq: 3, Sender: godwit.Sender(), Type: im.TypeText, Text: "what?"}, Mentions: []im.UserID{12},
		ForwardedFrom: &im.ForwardedFrom{Nickname: "Eve"}},
	Change: 5, EditedAt: 2, Reactions: []im.Reaction{{Reaction: "👍", Count: 2, Mine: true}},
}

func tryFrame(t *testing.T, schemas *openapi3.T, name string, frame []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(frame, &v); err != nil {
		t.Fatal(err)
	}
	if err := schemas.Components.Schemas["frame_"+name].Value.VisitJSON(v); err != nil {
		t.Errorf("%s: %s: %v", name, frame, err)
	}
}

// bodies are the types that both contracts describe under their own names.
var bodies = map[string]any{
	"PageConfig": protocol.PageConfig{}, "Limits": protocol.Limits{}, "Profile": im.Profile{}, "Register": protocol.Register{},
	"Login": protocol.Login{}, "Demo": protocol.Demo{}, "RefreshTokens": protocol.RefreshTokens{}, "Tokens": protocol.Tokens{},
	"ChangePassword": protocol.ChangePassword{}, "Devices": protocol.Devices{}, "SetPush": protocol.SetPush{}, "UpdateProfile": protocol.UpdateProfile{},
	"Me": protocol.Me{}, "RequestContact": protocol.RequestContact{}, "Contact": protocol.Contact{}, "Contacts": protocol.Contacts{},
	"ContactRequests": protocol.ContactRequests{}, "SetRemark": protocol.SetRemark{}, "ContactChanged": protocol.ContactChanged{},
	"Blocks": protocol.Blocks{}, "To": protocol.To{}, "Send": protocol.Send{}, "Sent": protocol.Sent{}, "Message": im.Message{},
	"Page": protocol.Page{}, "Conversation": protocol.Conversation{}, "Conversations": protocol.Conversations{},
	"Receipts": protocol.Receipts{}, "OfflineAck": protocol.OfflineAck{}, "OfflineSource": protocol.OfflineSource{},
	"OfflineSources": protocol.OfflineSources{}, "Position": im.Position{}, "Synced": protocol.Synced{},
	"ServerUsers": protocol.ServerUsers{}, "ServerProfiles": protocol.ServerProfiles{}, "IssueTokens": protocol.IssueTokens{},
	"Error": protocol.Error{}, "SocketError": protocol.Error{}, "HTTPLimits": protocol.HTTPLimits{}, "ServerSend": protocol.ServerSend{},

	"Request": protocol.Request{}, "Connect": protocol.Connect{}, "Connected": protocol.Connected{}, "Receipt": protocol.Receipt{},
	"Sync": protocol.Sync{}, "History": protocol.History{}, "OfflinePull": protocol.OfflinePull{}, "Refresh": protocol.Refresh{},
	"Refreshed": protocol.Refreshed{}, "Ping": protocol.Ping{}, "Pong": protocol.Pong{}, "Digest": protocol.Digest{},
	"Change": protocol.Change{}, "ChangeAnswer": protocol.ChangeAnswer{}, "Changed": protocol.Changed{}, "DeleteMessages": protocol.DeleteMessages{},
	"Deleted": protocol.Deleted{}, "AskDeletions": protocol.AskDeletions{}, "Deletions": protocol.Deletions{}, "Hidden": im.Hidden{}, "Edit": protocol.Edit{}, "Edits": protocol.Edits{},
	"Reaction": im.Reaction{}, "Reactor": protocol.Reactor{}, "Reactors": protocol.Reactors{}, "Quote": im.Quote{},
	"ForwardedFrom": im.ForwardedFrom{}, "MessageRef": protocol.MessageRef{}, "Media": im.MediaContent{}, "Thumbnail": im.Thumbnail{},
	"Location":  im.LocationContent{},
	"Presences": protocol.Presences{}, "Presence": protocol.Presence{}, "AskPresence": protocol.AskPresence{},
	"Settings": protocol.Settings{}, "Draft": protocol.Draft{}, "ChangeSettings": protocol.ChangeSettings{}, "SettingsOf": protocol.SettingsOf{},
	"DeleteConversation": protocol.DeleteConversation{}, "ConversationSettings": protocol.ConversationSettings{},
	"Typing": protocol.Typing{}, "TypingNow": protocol.TypingNow{},
	"ChannelRef": protocol.ChannelRef{}, "CreateGroup": protocol.CreateGroup{}, "UpdateGroup": protocol.UpdateGroup{}, "Group": protocol.Group{},
	"Channel": protocol.Channel{}, "GroupChanged": protocol.GroupChanged{}, "Groups": protocol.Groups{}, "GroupMember": protocol.GroupMember{},
	"GroupMembers": protocol.GroupMembers{}, "AddMembers": protocol.AddMembers{}, "SetRole": protocol.SetRole{}, "MuteMember": protocol.MuteMember{},
	"TransferGroup": protocol.TransferGroup{}, "JoinGroup": protocol.JoinGroup{}, "JoinRequest": protocol.JoinRequest{},
	"JoinRequests": protocol.JoinRequests{}, "CreateChannel": protocol.CreateChannel{}, "RenameChannel": protocol.RenameChannel{},
	"Scheduled": protocol.Scheduled{}, "ScheduledPage": protocol.ScheduledPage{}, "ChangeScheduled": protocol.ChangeScheduled{},
	"Notice": im.Notice{}, "NoticeUser": im.NoticeUser{}, "ReceiptCount": protocol.ReceiptCount{}, "ReceiptCounts": protocol.ReceiptCounts{},
	"Recipient": protocol.Recipient{}, "Recipients": protocol.Recipients{},
	"Stored": protocol.Stored{}, "Rejected": protocol.Rejected{}, "CursorMoved": protocol.CursorMoved{}, "Kicked": protocol.Kicked{},
}

// [A6]: a field added to a body is added to its contract.
func TestContracts_HaveEveryFieldOfEveryBody(t *testing.T) {
	_, schemas := loadAsync(t)
	for name, body := range bodies {
		ref, ok := schemas.Components.Schemas[name]
		if !ok {
			t.Errorf("no contract has a schema %s", name)
			continue
		}
		said := slices.Sorted(maps.Keys(properties(ref.Value)))
		if fields := slices.Sorted(maps.Keys(fieldsOf(reflect.TypeOf(body)))); !slices.Equal(said, fields) {
			t.Errorf("%s: the contract has %v, the code %v", name, said, fields)
		}
	}
	for name, ref := range schemas.Components.Schemas {
		if _, tried := bodies[name]; !tried && len(properties(ref.Value)) > 0 && !strings.HasPrefix(name, "frame_") && name != "Reply" {
			t.Errorf("schema %s is held to no type", name)
		}
	}
}

func properties(s *openapi3.Schema) map[string]bool {
	all := map[string]bool{}
	for p := range s.Properties {
		all[p] = true
	}
	for _, part := range s.AllOf {
		maps.Copy(all, properties(part.Value))
	}
	return all
}

func fieldsOf(t reflect.Type) map[string]bool {
	all := map[string]bool{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			maps.Copy(all, fieldsOf(f.Type))
		case name != "-":
			all[name] = true
		}
	}
	return all
}
