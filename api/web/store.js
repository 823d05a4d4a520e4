// What this device knows: its conversations, and of those it has opened a window of
// messages (window.js). Everything the server says may come twice, late or out of
// order, so numbers only rise, and of settings the higher version holds.

import { Events } from './events.js';
import { append, begin, bottom, cut, find, first, have, hide, prepend, replace, withOwn } from './window.js';

const epoch = Date.UTC(2026, 0, 1); // zero of the time in a message ID, ms

// rankOf makes a time comparable with message IDs, whose upper bits are milliseconds.
export const rankOf = (ms) => (ms - epoch) * 4096;

// directID names the one-to-one conversation of two users.
export function directID(a, b) {
  return Number(a) <= Number(b) ? `d${a}-${b}` : `d${b}-${a}`;
}

// told says that a message is something that happened, not something that was said.
export const told = (m) => m.type === 'system' || m.type === 'notice';

export class Store extends Events {
  me;
  people;
  conversations = new Map();
  next = ''; // where the list goes on; '' at its end
  #unlisted = 0; // unread messages in what the list has not shown yet, muted ones aside
  clockAhead = 0; // the server's clock less ours, ms
  limits = { max_text_bytes: 8192 };

  constructor(me, people) {
    super();
    this.me = me;
    this.people = people;
  }

  now() { return Date.now() + this.clockAhead; }

  mine(message) { return message.sender.id === this.me.id; }

  get(id) { return this.conversations.get(id); }

  // ensure returns the conversation, new where it was not known.
  ensure(id, peer = null) {
    let c = this.conversations.get(id);
    if (!c) {
      c = {
        id, peer, channel: null, left: false, firstSeq: 1, floor: 0,
        lastSeq: 0, lastChange: 0, last: null, deliveredSeq: 0, readSeq: 0, unread: 0, mentionedSeq: 0, deletions: 0,
        peerDelivered: 0, peerRead: 0, settings: { version: 0 },
        window: null, // {items, more, change, deletion} once opened
        sending: [], // on their way, in order (outgoing.js)
      };
      this.conversations.set(id, c);
    }
    if (peer) {
      c.peer = peer;
      this.people.learn(peer);
    }
    this.changed('list', c);
    return c;
  }

  // row takes a conversation as the server's list has it.
  row(r) {
    const c = this.ensure(r.conversation_id, r.peer ?? null);
    const current = r.last_seq >= c.lastSeq && r.read_seq >= c.readSeq;
    if (r.channel) c.channel = r.channel;
    if (r.last_seq >= c.lastSeq) c.left = Boolean(r.left);
    c.firstSeq = Math.max(c.firstSeq, r.first_seq ?? 1);
    c.floor = Math.max(c.floor, r.floor_seq ?? 0);
    cut(c);
    if (r.last_message && r.last_seq >= c.lastSeq && r.last_change >= c.lastChange) this.#last(c, r.last_message);
    c.lastSeq = Math.max(c.lastSeq, r.last_seq);
    c.lastChange = Math.max(c.lastChange, r.last_change);
    c.deletions = Math.max(c.deletions, r.deletions ?? 0);
    c.deliveredSeq = Math.max(c.deliveredSeq, r.delivered_seq);
    c.readSeq = Math.max(c.readSeq, r.read_seq);
    if (current) c.mentionedSeq = r.mentioned_seq ?? 0;
    this.#peerAt(c, r.peer_delivered_seq, r.peer_read_seq);
    if (r.settings) this.#settings(c, r.settings);
    if (current) c.unread = r.unread;
    else this.#recount(c);
    this.#touched(c);
  }

  // settings takes what one has set for a conversation.
  settings({ conversation_id: id, floor_seq: floor, settings }) {
    const c = this.ensure(id);
    this.#settings(c, settings);
    if (floor > c.floor) {
      c.floor = floor;
      cut(c);
      if (!this.#recount(c)) this.changed('stale');
    }
    this.#touched(c);
  }

  // message takes a pushed message. "stale" is told where a conversation's row can no
  // longer be known from pushes alone: ask the server.
  message(m) {
    const known = this.conversations.has(m.conversation_id);
    const c = this.ensure(m.conversation_id);
    const mine = this.mine(m);
    this.people.learn(m.sender);
    if (!mine && !told(m) && m.conversation_id.startsWith('d')) c.peer = { ...c.peer, ...m.sender };
    if (m.seq > c.lastSeq) {
      if (mine || m.seq !== c.lastSeq + 1 || m.type === 'notice' || !known) this.changed('stale');
      else if (!told(m)) c.unread++;
      if (!mine && (m.mentions_all || m.mentions?.includes(this.me.id))) c.mentionedSeq = m.seq;
      c.lastSeq = m.seq;
      this.#last(c, m);
    }
    if (c.window) append(c, [m]);
    this.#touched(c);
  }

  // stored takes a message of this device's own, with which this user has read all
  // before it.
  stored(m) {
    const c = this.ensure(m.conversation_id);
    if (m.seq > c.lastSeq) {
      c.lastSeq = m.seq;
      this.#last(c, m);
    }
    if (c.window) append(c, [m]);
    this.readTo(c, m.seq);
    this.#touched(c);
  }

  // page takes a page of history; where says what was asked for: 'latest', 'before' or
  // 'after'. mark is what was known of changes and deletions before it was asked for.
  page(c, where, { items, has_more: more, first_seq: from = 1 }, mark) {
    c.firstSeq = Math.max(c.firstSeq, from);
    cut(c);
    for (const m of items) this.people.learn(m.sender);
    if (where === 'latest') {
      c.window = begin(more, mark.change, mark.deletion);
      append(c, items, true);
    } else if (where === 'before') {
      prepend(c, items, more);
    } else {
      append(c, items);
    }
    const last = items.at(-1);
    if (last && last.seq >= c.lastSeq) {
      c.lastSeq = last.seq;
      this.#last(c, last);
    }
    this.#recount(c);
    this.#touched(c);
  }

  // change takes one that was pushed: the message as it now is.
  change(c, data) {
    const { message, change } = data;
    const before = message && (find(c, message.seq) ?? (c.last?.seq === message.seq ? c.last : null));
    if (message) this.revised(c, withOwn(message, before, this.me.id, data));
    if (c.window?.change === change - 1) c.window.change = change;
    c.lastChange = Math.max(c.lastChange, change);
    if (data.kind === 'recall' && message?.seq > c.readSeq && !this.#recount(c)) this.changed('stale');
    this.#touched(c);
  }

  // revised takes a message as it now is.
  revised(c, message) {
    if (c.last?.seq === message.seq && (message.change ?? 0) > (c.last.change ?? 0) && !c.last.deleted) c.last = message;
    if (c.window) replace(c, message);
    this.#touched(c);
  }

  // deleted takes what this user has deleted for themselves, by number.
  deleted(c, items) {
    for (const { seq, deletion } of items) {
      const m = find(c, seq);
      if (m) replace(c, hide(m));
      if (c.last?.seq === seq) c.last = hide(c.last);
      if (c.window?.deletion === deletion - 1) c.window.deletion = deletion;
      c.deletions = Math.max(c.deletions, deletion);
      if (seq > c.readSeq && !this.#recount(c)) this.changed('stale');
    }
    this.#touched(c);
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

  // stateOf says how far a message of one's own has come, one-to-one.
  stateOf(c, seq) {
    if (seq <= c.peerRead) return 'read';
    if (seq <= c.peerDelivered) return 'delivered';
    return 'stored';
  }

  muted(c) { return (c.settings.muted_until ?? 0) > this.now(); }
  pinned(c) { return Boolean(c.settings.pinned_at); }
  marked(c) { return (c.settings.marked_seq ?? 0) > c.readSeq; }
  mentioned(c) { return c.mentionedSeq > c.readSeq; }
  hidden(c) { return c.lastSeq > 0 && c.lastSeq <= Math.max(c.settings.hidden_seq ?? 0, c.floor); }

  // unreadTotal is without what is muted.
  unreadTotal() { return this.#unlisted + this.#unreadListed(); }

  // total takes what is unread in all conversations that are not muted, as the server
  // counts it.
  total(n) {
    this.#unlisted = this.next ? Math.max(0, n - this.#unreadListed()) : 0;
    this.changed('list');
  }

  // list is the conversations in which something was said, the pinned first, then the
  // latest first.
  list() {
    const ranked = [];
    for (const c of this.conversations.values()) {
      const own = c.sending.length ? rankOf(c.sending.at(-1).at + this.clockAhead) : 0;
      const rank = Math.max(own, Number(c.last?.message_id ?? 0));
      if (rank > 0 && (own > 0 || !this.hidden(c))) ranked.push([this.pinned(c), rank, c]);
    }
    return ranked.sort((a, b) => b[0] - a[0] || b[1] - a[1]).map(([, , c]) => c);
  }

  // show tells that a conversation looks different, as when its outgoing messages changed.
  show(c) { this.#touched(c); }

  #unreadListed() {
    let n = 0;
    for (const c of this.conversations.values()) if (!this.muted(c) && !this.hidden(c)) n += c.unread;
    return n;
  }

  #touched(c) {
    this.changed('list', c);
    this.changed('conversation', c);
  }

  #last(c, m) {
    c.last = m;
    this.people.learn(m.sender);
  }

  #settings(c, settings) {
    if (settings.version >= c.settings.version) c.settings = settings;
  }

  #peerAt(c, delivered = 0, read = 0) {
    c.peerRead = Math.max(c.peerRead, read);
    c.peerDelivered = Math.max(c.peerDelivered, delivered, read);
  }

  // recount computes unread from the window where that reaches far enough.
  #recount(c) {
    const from = Math.max(c.readSeq, bottom(c) - 1);
    if (from >= c.lastSeq) {
      c.unread = 0;
    } else if (c.window && first(c) <= from + 1 && have(c) >= c.lastSeq) {
      c.unread = c.window.items.filter((m) => m.seq > from && !told(m) && !m.deleted && !m.recalled_at && !this.mine(m)).length;
    } else {
      return false;
    }
    return true;
  }
}
