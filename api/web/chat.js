// The open conversation: its messages, how far one's own have come, and endless scroll
// back that keeps the eye where it was.

import { el, perFrame, reconcile, say, set } from './dom.js';
import { dayName, fullTime, sameDay, textOf } from './format.js';
import { createMessage, updateMessage } from './message.js';
import { noticeText } from './notice.js';
import { titleOf } from './pick.js';
import { told } from './store.js';
import { find, first, full, have, trim } from './window.js';

const nearEnd = 80; // px from the bottom that still count as being there
const nearTop = 600; // px from the top at which older messages are loaded
const together = 5 * 60_000; // ms within which messages of one sender stand together

export class ChatView {
  #store;
  #catchUp;
  #receipts;
  #counts;
  #parts; // what a message's element needs
  #c = null;
  #newFrom = null; // seq above which messages were unread when the conversation was opened
  #placed = false; // the reader has been taken to where to begin
  #atEnd = true;
  #loading = false;
  #log = document.getElementById('log');
  #messages = document.getElementById('messages');
  #older = document.getElementById('older');
  #latest = document.getElementById('latest');
  #latestCount = document.getElementById('latest-count');
  #panes = { open: document.getElementById('open'), nothing: document.getElementById('nothing') };

  constructor({ store, catchUp, receipts, counts, outgoing, actions }) {
    this.#store = store;
    this.#catchUp = catchUp;
    this.#receipts = receipts;
    this.#counts = counts;
    this.#parts = { store, outgoing, actions, jump: (seq) => this.jump(seq) };
    const render = perFrame(() => { if (this.#c) this.#render(); });
    store.on('conversation', (changed) => { if (changed.has(this.#c)) render(); });
    store.on('people', render);
    store.on('synced', () => this.#load());
    this.#log.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#latest.addEventListener('click', () => this.toEnd());
    this.#messages.addEventListener('keydown', (event) => this.#key(event));
    document.addEventListener('visibilitychange', () => this.#read());
    // A keyboard that opens or a line more to write must not cover the end.
    new ResizeObserver(() => { if (this.#atEnd) this.toEnd(); }).observe(this.#log);
  }

  get id() { return this.#c?.id ?? ''; }

  show(c) {
    this.#panes.open.hidden = c === null;
    this.#panes.nothing.hidden = c !== null;
    if (c === this.#c) return;
    if (this.#c) trim(this.#c);
    this.#c = c;
    this.#messages.replaceChildren();
    this.#atEnd = true;
    this.#placed = false;
    if (!c) return;
    this.#newFrom = c.unread > 0 ? c.readSeq : null;
    this.#render();
    this.#load();
  }

  async #load() {
    const c = this.#c;
    if (!c) return;
    if (!c.window) {
      await this.#catchUp.open(c);
      if (c !== this.#c || !c.window) return;
      this.#render();
    }
    this.#scrolled();
  }

  // begin takes the reader to the first unread message, or to the end where all of them
  // fit.
  #begin() {
    this.#placed = true;
    const line = this.#messages.querySelector('.new');
    if (line && line.offsetTop < this.#log.scrollHeight - this.#log.clientHeight) this.#log.scrollTop = line.offsetTop - 24;
    else this.toEnd();
    this.#measure();
  }

  toEnd() {
    this.#atEnd = true;
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  // key goes from the menu of one message to that of another.
  #key(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || !event.target.matches('.more')) return;
    const all = [...this.#messages.querySelectorAll('.more:not([hidden])')];
    all[all.indexOf(event.target) + step]?.focus();
    event.preventDefault();
  }

  // jump shows a message that another refers to, loading what is in between.
  async jump(seq) {
    const c = this.#c;
    while (!find(c, seq) && c.window?.more && !full(c)) {
      const top = first(c);
      await this.#catchUp.back(c);
      if (c !== this.#c || first(c) >= top) return;
    }
    await new Promise((resolve) => { requestAnimationFrame(resolve); });
    const line = this.#messages.querySelector(`.message[data-seq="${seq}"]`);
    if (!line) return;
    line.scrollIntoView({ block: 'center' });
    line.classList.remove('shown');
    requestAnimationFrame(() => line.classList.add('shown'));
  }

  #measure() {
    const { scrollTop, scrollHeight, clientHeight } = this.#log;
    this.#atEnd = scrollTop + clientHeight > scrollHeight - nearEnd;
    return scrollTop;
  }

  async #scrolled() {
    const scrollTop = this.#measure();
    this.#read();
    const c = this.#c;
    if (this.#loading || !c?.window?.more || scrollTop > nearTop) return;
    this.#loading = true;
    const top = first(c);
    await this.#catchUp.back(c);
    this.#loading = false;
    // Still near the top, with news of what is above: go on.
    if (c === this.#c && first(c) < top) requestAnimationFrame(() => this.#scrolled());
  }

  // read tells how far this user has read: what is at the end of a window that is open,
  // visible and scrolled there.
  #read() {
    const c = this.#c;
    const seen = c?.window && this.#placed && this.#atEnd && document.visibilityState === 'visible';
    if (seen) this.#receipts.read(c, have(c));
    this.#latest.hidden = !c || this.#atEnd;
    say(this.#latestCount, c?.unread ? String(c.unread) : '');
  }

  #render() {
    const c = this.#c;
    if (c.window && this.#placed && this.#atEnd && full(c)) trim(c); // one that stays open would grow for ever
    this.#top(c);
    const keep = this.#anchor();
    reconcile(this.#messages, this.#lines(c), (l) => l.key, (l) => this.#create(l), (e, l) => this.#update(e, l, c));
    if (c.window && !this.#placed) this.#begin();
    else keep();
    this.#read();
  }

  // anchor notes what the reader looks at, so that it stays there whatever comes above.
  #anchor() {
    if (this.#atEnd) return () => this.toEnd();
    const top = this.#log.scrollTop;
    const lines = this.#messages.children;
    let [low, high] = [0, lines.length]; // the first line that ends below the top
    while (low < high) {
      const middle = (low + high) >> 1;
      if (lines[middle].offsetTop + lines[middle].offsetHeight > top) high = middle;
      else low = middle + 1;
    }
    // A line about others (a day, "New") may go; a message stays.
    let line = lines[low];
    while (line && !line.matches('.message, .system')) line = line.nextElementSibling;
    const was = line?.offsetTop;
    return () => { if (line?.isConnected) this.#log.scrollTop = top + line.offsetTop - was; };
  }

  #top(c) {
    const end = c.window?.more && full(c);
    this.#older.hidden = !(c.window === null || c.window.more || (c.window.items.length === 0 && c.sending.length === 0));
    say(this.#older, end ? 'Older messages are not shown here.'
      : !c.window || c.window.more ? 'Loading…'
      : c.floor ? 'What was said before is deleted.' : `Say hello to ${titleOf(c, this.#store.people)}.`);
  }

  // lines is what the conversation shows, from the top: days, the line above what is new,
  // messages, and those on their way.
  #lines(c) {
    const lines = [];
    const now = this.#store.now();
    let before = null;
    let old = this.#newFrom !== null;
    const add = (line) => {
      if (!before || !sameDay(before.at, line.at)) {
        lines.push({ kind: 'day', key: `day ${line.key}`, text: dayName(line.at, now) });
        before = null;
      }
      if (old && line.seq > this.#newFrom && !line.mine) {
        old = false;
        lines.push({ kind: 'new', key: 'new' });
        before = null;
      }
      line.first = !before || before.sender !== line.sender || line.at - before.at > together;
      lines.push(line);
      before = line;
    };
    const telling = { me: this.#store.me.id, called: (p) => this.#store.people.called(p), clock: fullTime };
    for (const m of c.window?.items ?? []) {
      if (m.deleted) continue;
      const mine = this.#store.mine(m);
      const text = m.type === 'notice' ? noticeText(m.content, telling) : textOf(m);
      add({
        kind: told(m) ? 'system' : 'message', key: m.client_msg_id && mine ? m.client_msg_id : `seq ${m.seq}`,
        m, seq: m.seq, sender: m.sender.id, mine, at: m.stored_at, text,
        state: mine && !m.recalled_at ? this.#counts.stateOf(c, m.seq) : '', counts: mine && !m.recalled_at ? this.#counts.of(c, m.seq) : null,
      });
    }
    for (const o of c.sending) {
      add({
        kind: 'message', key: o.id, m: { ...o.message, sender: this.#store.me }, sender: this.#store.me.id, mine: true,
        at: o.at + this.#store.clockAhead, state: o.state, error: o.error, item: o,
      });
    }
    const last = lines.findLast((l) => l.kind === 'message' && l.seq);
    if (last) last.last = true;
    return lines;
  }

  #create(line) {
    switch (line.kind) {
      case 'day': return el('li', { class: 'day' }, line.text);
      case 'new': return el('li', { class: 'new' }, 'New');
      case 'system': return el('li', { class: 'system', dir: 'auto' });
      default: return createMessage(line, this.#parts);
    }
  }

  #update(e, line, c) {
    if (line.kind === 'system') {
      set(e, 'data-seq', line.seq);
      say(e, line.text);
    }
    if (line.kind === 'message') updateMessage(e, line, c, this.#parts);
  }
}
