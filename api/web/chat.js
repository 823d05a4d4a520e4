// The open conversation: its messages, how far one's own have come, and endless scroll
// back that keeps the eye where it was.

import { avatar, el, reconcile, say, set, tick } from './dom.js';
import { clock, dayName, fullTime, nameOf, sameDay, textOf } from './format.js';

const nearEnd = 80; // px from the bottom that still count as being there
const nearTop = 600; // px from the top at which older messages are loaded
const together = 5 * 60_000; // ms within which messages of one sender stand together

export class ChatView {
  #store;
  #catchUp;
  #receipts;
  #outgoing;
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

  constructor(store, catchUp, receipts, outgoing) {
    this.#store = store;
    this.#catchUp = catchUp;
    this.#receipts = receipts;
    this.#outgoing = outgoing;
    store.on('conversation', (changed) => { if (changed.has(this.#c)) this.#render(); });
    store.on('synced', () => this.#load());
    this.#log.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#latest.addEventListener('click', () => this.toEnd());
    document.addEventListener('visibilitychange', () => this.#read());
    // A keyboard that opens or a line more to write must not cover the end.
    new ResizeObserver(() => { if (this.#atEnd) this.toEnd(); }).observe(this.#log);
  }

  get id() { return this.#c?.id ?? ''; }

  show(c) {
    this.#panes.open.hidden = c === null;
    this.#panes.nothing.hidden = c !== null;
    if (c === this.#c) return;
    if (this.#c) this.#store.trim(this.#c);
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

  toEnd() { this.#log.scrollTop = this.#log.scrollHeight; }

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
    const first = this.#store.first(c);
    await this.#catchUp.back(c);
    this.#loading = false;
    // Still near the top, with news of what is above: go on.
    if (c === this.#c && this.#store.first(c) < first) requestAnimationFrame(() => this.#scrolled());
  }

  // read tells how far this user has read: what is at the end of a window that is open,
  // visible and scrolled there.
  #read() {
    const c = this.#c;
    const seen = c?.window && this.#placed && this.#atEnd && document.visibilityState === 'visible';
    if (seen) this.#receipts.read(c, this.#store.have(c));
    this.#latest.hidden = !c || this.#atEnd;
    say(this.#latestCount, c?.unread ? String(c.unread) : '');
  }

  #render() {
    const c = this.#c;
    this.#header(c);
    const { atEnd, keep } = this.#anchor();
    reconcile(this.#messages, this.#lines(c), (l) => l.key, (l) => this.#create(l), (e, l) => this.#update(e, l, c));
    if (c.window && !this.#placed) this.#begin();
    else if (atEnd) this.toEnd();
    else keep();
    this.#read();
  }

  // anchor notes what the reader looks at, so that it stays there whatever comes above.
  #anchor() {
    const top = this.#log.scrollTop;
    const line = [...this.#messages.querySelectorAll('.message, .system')].find((e) => e.offsetTop + e.offsetHeight > top);
    const was = line?.offsetTop;
    return {
      atEnd: this.#atEnd,
      keep: () => { if (line?.isConnected) this.#log.scrollTop = top + line.offsetTop - was; },
    };
  }

  #header(c) {
    avatar(document.getElementById('peer-avatar'), c.peer);
    say(document.getElementById('peer-name'), nameOf(c.peer));
    say(document.getElementById('peer-handle'), c.peer?.handle ? `@${c.peer.handle}` : '');
    const full = c.window?.more && this.#store.full(c);
    this.#older.hidden = !(c.window === null || c.window.more || (c.window.items.length === 0 && c.sending.length === 0));
    say(this.#older, full ? 'Older messages are not shown here.'
      : !c.window || c.window.more ? 'Loading…' : `Say hello to ${nameOf(c.peer)}.`);
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
    for (const m of c.window?.items ?? []) {
      const mine = this.#store.mine(m);
      add({
        kind: m.type === 'system' ? 'system' : 'message', key: m.client_msg_id && mine ? m.client_msg_id : `seq ${m.seq}`,
        seq: m.seq, sender: m.sender.id, mine, at: m.stored_at, text: textOf(m), other: m.type === 'custom',
        state: mine ? this.#store.stateOf(c, m.seq) : '',
      });
    }
    for (const o of c.sending) {
      add({
        kind: 'message', key: o.id, sender: this.#store.me.id, mine: true, at: o.at + this.#store.clockAhead,
        text: o.text, state: o.state, error: o.error, item: o,
      });
    }
    return lines;
  }

  #create(line) {
    switch (line.kind) {
      case 'day': return el('li', { class: 'day' }, line.text);
      case 'new': return el('li', { class: 'new' }, 'New');
      case 'system': return el('li', { class: 'system', dir: 'auto' }, line.text);
      default:
        return el('li', { class: 'message' }, el('span', { class: 'hidden' }),
          el('div', { class: 'bubble', dir: 'auto' },
            el('span', { class: line.other ? 'text other' : 'text' }, line.text),
            el('span', { class: 'meta' }, el('time'), el('span', { class: 'ticks' }))));
    }
  }

  #update(e, line, c) {
    if (line.kind !== 'message') return;
    e.classList.toggle('mine', line.mine);
    e.classList.toggle('first', line.first);
    e.classList.toggle('failed', line.state === 'failed');
    set(e, 'data-seq', line.seq);
    say(e.firstElementChild, `${line.mine ? 'You' : nameOf(c.peer)} said:`);
    const time = e.querySelector('time');
    say(time, clock(line.at));
    set(time, 'title', fullTime(line.at));
    tick(e.querySelector('.ticks'), line.state);
    const failure = e.querySelector('.failure');
    if (line.state === 'failed' && !failure) {
      e.append(el('div', { class: 'failure' }, el('span', {}, `Not sent: ${line.error}`),
        el('button', { type: 'button', class: 'link', onclick: () => this.#outgoing.again(line.item) }, 'Try again'),
        el('button', { type: 'button', class: 'link', onclick: () => this.#outgoing.discard(line.item) }, 'Discard')));
    } else if (line.state !== 'failed') {
      failure?.remove();
    }
  }
}
