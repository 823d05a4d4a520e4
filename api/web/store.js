// What this device knows: its conversations, and of those it has opened a window of
// messages without holes. Everything the server says may come twice, late or out of
// order, so numbers only rise and a message is known by its seq.

import { Events } from './events.js';

const maxShown = 10_000; // messages of one window; older ones are then not loaded
const keptShown = 200; // messages of a window that is no longer looked at
const epoch = Date.UTC(2026, 0, 1); // zero of the time in a message ID, ms

// rankOf makes a time comparable with message IDs, whose upper bits are milliseconds.
export const rankOf = (ms) => (ms - epoch) * 4096;

// directID names the one-to-one conversation of two users.
export function directID(a, b) {
  return Number(a) <= Number(b) ? `d${a}-${b}` : `d${b}-${a}`;
}

export class Store extends Events {
  me;
  conversations = new Map();
  next = ''; // where the list goes on; '' at its end
  #unlisted = 0; // unread messages in what the list has not shown yet
  clockAhead = 0; // the server's clock less ours, ms
  limits = { max_text_bytes: 8192 };

  constructor(me) {
    super();
    this.me = me;
  }

  now() { return Date.now() + this.clockAhead; }

  mine(message) { return message.sender.id === this.me.id; }

  get(id) { return this.conversations.get(id); }

  // ensure returns the conversation, new where it was not known.
  ensure(id, peer = null) {
    let c = this.conversations.get(id);
    if (!c) {
      c = {
        id, peer, lastSeq: 0, last: null, deliveredSeq: 0, readSeq: 0, unread: 0,
        peerDelivered: 0, peerRead: 0,
        window: null, // {items, more} once opened
        sending: [], // on their way, in order (outgoing.js)
      };
      this.conversations.set(id, c);
    }
    if (peer) c.peer = peer;
    this.changed('list', c);
    return c;
  }

  // row takes a conversation as the server's list has it.
  row(r) {
    const c = this.ensure(r.conversation_id, r.peer ?? null);
    const current = r.last_seq >= c.lastSeq && r.read_seq >= c.readSeq;
    if (r.last_message && r.last_seq >= c.lastSeq) c.last = r.last_message;
    c.lastSeq = Math.max(c.lastSeq, r.last_seq);
    c.deliveredSeq = Math.max(c.deliveredSeq, r.delivered_seq);
    c.readSeq = Math.max(c.readSeq, r.read_seq);
    this.#peerAt(c, r.peer_delivered_seq, r.peer_read_seq);
    if (current) c.unread = r.unread;
    else this.#recount(c);
    this.#touched(c);
  }

  // message takes a pushed message. "stale" is told where a conversation's row can no
  // longer be known from pushes alone: ask the server.
  message(m) {
    const c = this.ensure(m.conversation_id);
    const mine = this.mine(m);
    if (!mine) c.peer = { ...c.peer, ...m.sender };
    if (m.seq > c.lastSeq) {
      if (mine || m.seq !== c.lastSeq + 1) this.changed('stale');
      else if (m.type !== 'system') c.unread++;
      c.lastSeq = m.seq;
      c.last = m;
    }
    if (c.window) this.#append(c, [m]);
    this.#touched(c);
  }

  // stored takes a message of this device's own, with which this user has read all
  // before it.
  stored(m) {
    const c = this.ensure(m.conversation_id);
    if (m.seq > c.lastSeq) {
      c.lastSeq = m.seq;
      c.last = m;
    }
    if (c.window) this.#append(c, [m]);
    this.readTo(c, m.seq);
    this.#touched(c);
  }

  // page takes a page of history; where says what was asked for: 'latest', 'before' or
  // 'after'.
  page(c, where, { items, has_more: more }) {
    if (where === 'latest') {
      c.window = { items: [], more };
      this.#append(c, items, true);
    } else if (where === 'before') {
      const first = this.first(c);
      c.window.items.unshift(...items.filter((m) => m.seq < first));
      c.window.more = more;
    } else {
      this.#append(c, items);
    }
    const last = items.at(-1);
    if (last && last.seq >= c.lastSeq) {
      c.lastSeq = last.seq;
      c.last = last;
    }
    this.#recount(c);
    this.#touched(c);
  }

  // first and have bound the window: it holds every message from first to have.
  first(c) { return c.window?.items[0]?.seq ?? 0; }
  have(c) { return c.window?.items.at(-1)?.seq ?? 0; }

  // full says that a window grows no further backwards.
  full(c) { return c.window.items.length >= maxShown; }

  // trim lets go of what a window holds beyond its newest messages.
  trim(c) {
    if (!c.window || c.window.items.length <= keptShown) return;
    c.window.items.splice(0, c.window.items.length - keptShown);
    c.window.more = true;
  }

  // readTo moves this user's read cursor.
  readTo(c, seq) {
    if (seq <= c.readSeq) return;
    c.readSeq = seq;
    if (!this.#recount(c)) this.changed('stale');
    this.#touched(c);
  }

  // peerAt moves the other side's cursors: the ticks of what this user sent.
  peerAt(c, delivered = 0, read = 0) {
    this.#peerAt(c, delivered, read);
    this.#touched(c);
  }

  // stateOf says how far a message of one's own has come.
  stateOf(c, seq) {
    if (seq <= c.peerRead) return 'read';
    if (seq <= c.peerDelivered) return 'delivered';
    return 'stored';
  }

  unreadTotal() { return this.#unlisted + this.#unreadListed(); }

  // total takes what is unread in all conversations, as the server counts it.
  total(n) {
    this.#unlisted = this.next ? Math.max(0, n - this.#unreadListed()) : 0;
    this.changed('list');
  }

  // list is the conversations in which something was said, the latest first.
  list() {
    const ranked = [];
    for (const c of this.conversations.values()) {
      const own = c.sending.length ? rankOf(c.sending.at(-1).at + this.clockAhead) : 0;
      const rank = Math.max(own, Number(c.last?.message_id ?? 0));
      if (rank > 0) ranked.push([rank, c]);
    }
    return ranked.sort((a, b) => b[0] - a[0]).map(([, c]) => c);
  }

  // show tells that a conversation looks different, as when its outgoing messages changed.
  show(c) { this.#touched(c); }

  #unreadListed() {
    let n = 0;
    for (const c of this.conversations.values()) n += c.unread;
    return n;
  }

  #touched(c) {
    this.changed('list', c);
    this.changed('conversation', c);
  }

  #peerAt(c, delivered, read) {
    c.peerRead = Math.max(c.peerRead, read);
    c.peerDelivered = Math.max(c.peerDelivered, delivered, read);
  }

  // append adds what comes next to the window; what would leave a hole waits for a pull.
  #append(c, items, any = false) {
    for (const m of items) {
      const next = this.have(c) + 1;
      if (m.seq === next || (any && m.seq > next)) c.window.items.push(m);
    }
  }

  // recount computes unread from the window where that reaches far enough.
  #recount(c) {
    if (c.readSeq >= c.lastSeq) {
      c.unread = 0;
    } else if (c.window && this.first(c) <= c.readSeq + 1 && this.have(c) >= c.lastSeq) {
      c.unread = c.window.items.filter((m) => m.seq > c.readSeq && m.type !== 'system' && !this.mine(m)).length;
    } else {
      return false;
    }
    return true;
  }
}
