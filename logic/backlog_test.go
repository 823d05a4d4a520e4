package logic

import "github.com/curlew-im/curlew/logic/im"

func (w *world) Backlog(im.ConversationID) im.Backlog {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.behind
}

func (w *world) Least() im.Backlog { return w.Backlog("") }
