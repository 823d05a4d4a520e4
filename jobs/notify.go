package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/curlew-im/curlew/logic/im"
)

// Notifier tells devices that are not connected, by whatever reaches them: Apple's or
// Google's service, or a webhook (NewWebhook), which is there out of the box.
type Notifier interface {
	// Notify returns what became of each, in their order: nil where it was taken, ErrGone
	// where the token is good no longer, ErrRefused where it will never be taken; anything
	// else is tried again. At most 100, within 20 s; what is told twice has the same Key.
	Notify(ctx context.Context, all []Notification) []error
}

var (
	// ErrGone says that a device is not reached by its token any more: it is removed.
	ErrGone = errors.New("the push token is gone")
	// ErrRefused says that trying again cannot help: a dead letter.
	ErrRefused = errors.New("refused")
	// ErrBusy says that it was not tried, others being under way: no attempt is counted.
	ErrBusy = errors.New("too many calls are under way")
)

// Notification is what one device is told about one message.
type Notification struct {
	// Key is the same whenever this device is told about this message.
	Key          string            `json:"key"`
	User         im.UserID         `json:"user_id"`
	Device       im.DeviceID       `json:"device"`
	Provider     string            `json:"provider"`
	Token        string            `json:"token"`
	Conversation im.ConversationID `json:"conversation_id"`
	Seq          im.Seq            `json:"seq"`
	MessageID    im.MessageID      `json:"message_id"`
	Sender       im.Sender         `json:"sender"`
	Type         im.MessageType    `json:"type"`
	Preview      string            `json:"preview,omitempty"` // the beginning of a text
	Badge        uint64            `json:"badge"`             // all that is unread and not muted
	Mentioned    bool              `json:"mentioned"`
}

// Devices knows who can be reached, in MySQL: im.ErrStore while that is away.
type Devices interface {
	// NotifyTargets are the devices that are to be told about a message, by (user, device).
	NotifyTargets(ctx context.Context, q im.NotifyQuery) (all []im.PushTarget, more bool, err error)
	// DropPushTokens removes tokens from the devices that still have them.
	DropPushTokens(ctx context.Context, gone []im.PushTarget) error
}

// Badges counts what is unread.
type Badges interface {
	UnreadTotal(ctx context.Context, u im.UserID) (total im.UnreadTotal, degraded bool, err error)
}

// NotifyConfig says by what devices that are not connected are told; nothing set: they
// are not.
type NotifyConfig struct {
	Webhook WebhookConfig
}

// Validate names the first bad field.
func (c NotifyConfig) Validate() error { return c.Webhook.validate() }

const (
	notifyCall    = 100              // notifications that a provider is handed at once
	notifyTargets = 16               // of one record: it must fit into the log's bound
	notifyGather  = 1000             // told about before more records are looked at
	notifyFor     = 10 * time.Second // after which the rest of a batch lines up again
	previewBytes  = 1 << 10
)

// preview is the beginning of a text, as the content of a NotifyTask.
func preview(t im.MessageType, content json.RawMessage) json.RawMessage {
	var c im.TextContent
	if t != im.TypeText || json.Unmarshal(content, &c) != nil {
		return nil
	}
	for room := previewBytes; ; room /= 2 {
		if len(c.Text) > room {
			end := room
			for end > 0 && !utf8.RuneStart(c.Text[end]) {
				end--
			}
			c.Text = c.Text[:end]
		}
		// Escaped it may be six times as long.
		if b, err := json.Marshal(c); err != nil || len(b) <= previewBytes {
			return b
		}
	}
}

// notifyOf is the record that asks to tell about a message: users, or whoever is in the
// conversation.
func notifyOf(d *send, users []im.UserID) im.Task {
	t := d.task
	return im.Task{Conversation: d.conv, Notify: &im.NotifyTask{
		Seq: d.ref.Seq, MessageID: d.ref.ID, Sender: t.Sender, Type: t.Type, Content: preview(t.Type, t.Content), StoredAt: d.ref.StoredAt,
		About: im.About{Mentions: t.About.Mentions, MentionsAll: t.About.MentionsAll}, Users: users,
	}}
}

// notification is what a device is told by a task.
func notification(conv im.ConversationID, t *im.NotifyTask, to im.PushTarget, badge uint64) Notification {
	var text im.TextContent
	_ = json.Unmarshal(t.Content, &text) // none: no preview
	return Notification{
		Key:  fmt.Sprintf("%s-%s-%s", t.MessageID, to.User, to.Device),
		User: to.User, Device: to.Device, Provider: to.Provider, Token: to.Token,
		Conversation: conv, Seq: t.Seq, MessageID: t.MessageID, Sender: t.Sender, Type: t.Type, Preview: text.Text, Badge: badge,
		Mentioned: t.About.MentionsAll || slices.Contains(t.About.Mentions, to.User),
	}
}

// notifyMetrics are those of the lane retry.
type notifyMetrics struct {
	notifications *prometheus.CounterVec
	letters       *prometheus.CounterVec
	calls         *prometheus.HistogramVec
}

func newNotifyMetrics(reg prometheus.Registerer) *notifyMetrics {
	m := &notifyMetrics{
		notifications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_jobs_notifications_total", Help: "Notifications to devices that are not connected, by what became of them: sent, online, gone, retried, refused, given_up.",
		}, []string{"result"}),
		letters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "curlew_jobs_dead_letters_total", Help: "Dead letters by what was done: parked (what the lanes delay, retry and dead gave up or could not read), replayed, discarded.",
		}, []string{"deed"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "curlew_jobs_notify_seconds", Help: "Calls of the provider of notifications, by result: ok, refused, failed, busy (not made).",
			Buckets: []float64{.005, .02, .05, .1, .25, .5, 1, 2, 5, 10},
		}, []string{"result"}),
	}
	reg.MustRegister(m.notifications, m.letters, m.calls)
	return m
}
