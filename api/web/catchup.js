// Keeping up: a sync from the kept position after each connect, pushes while connected,
// a pull where a seq or a number shows a hole, and a heartbeat that finds what no push
// told. Push may fail, pull repairs.

import { quietly } from './api.js';
import { first, full, have } from './window.js';

const pageSize = 100;
const farBehind = 300; // messages; a window further behind than this starts anew at the end

export class CatchUp {
  #session;
  #socket;
  #store;
  #outgoing;
  #receipts;
  #position = null;
  #pulling = new Map(); // conversation ID → promise
  #syncing = null;
  #again = false;
  #heartbeat;
  #lateral; // {presence, typing, changes}: what else is pushed

  constructor(session, socket, store, outgoing, receipts, lateral) {
    this.#session = session;
    this.#socket = socket;
    this.#store = store;
    this.#outgoing = outgoing;
    this.#receipts = receipts;
    this.#lateral = lateral;
    store.on('stale', () => this.sync());
  }

  // start follows a new connection.
  async start({ heartbeat_ms: every }) {
    clearInterval(this.#heartbeat);
    this.#heartbeat = setInterval(() => this.beat(), every);
    await this.sync();
  }

  stop() { clearInterval(this.#heartbeat); }

  // push takes what the server says unasked. An unknown kind is from a newer server.
  push(kind, data) {
    const store = this.#store;
    const c = data.conversation_id && store.get(data.conversation_id);
    switch (kind) {
      case 'message': this.#message(data, c); break;
      case 'stored':
        this.#outgoing.stored(data);
        this.#hole(c);
        break;
      case 'rejected':
        if (data.client_change_id) this.#lateral.changes.rejected(data);
        else this.#outgoing.rejected(data);
        break;
      case 'changed':
        this.#lateral.changes.changed(data);
        if (c) store.change(c, data);
        this.#hole(c);
        break;
      case 'deleted':
        if (c) store.deleted(c, data.items);
        this.#hole(c);
        break;
      case 'receipt':
        if (!c || data.user_id === store.me.id) break;
        if (c.channel) store.tell('receipt', c);
        else store.peerAt(c, data.delivered_seq, data.read_seq);
        break;
      case 'read_self':
        if (c && data.delivered_seq) c.deliveredSeq = Math.max(c.deliveredSeq, data.delivered_seq);
        if (c && data.read_seq) store.readTo(c, data.read_seq);
        break;
      case 'conversation': store.settings(data); break;
      case 'contact': store.people.push(data); break;
      case 'presence': this.#lateral.presence.push(data); break;
      case 'typing': this.#lateral.typing.push(data); break;
      case 'nudge':
        this.#lateral.presence.anew();
        quietly(() => store.people.again());
        this.beat();
        break;
      default:
    }
  }

  #message(m, before) {
    const store = this.#store;
    this.#outgoing.seen(m);
    const news = m.seq > (before?.lastSeq ?? 0);
    store.message(m);
    const c = store.get(m.conversation_id);
    this.#hole(c);
    this.#lateral.typing.stopped(c.id, m.sender.id);
    if (store.mine(m)) return;
    this.#receipts.delivered(c, m.seq);
    if (news) store.tell('arrived', m);
  }

  // beat asks whether anything was missed.
  async beat() {
    if (!this.#socket.up) return;
    this.#outgoing.overdue();
    await quietly(async () => {
      const pong = await this.#socket.ask('ping', this.#position ? { position: this.#position } : {});
      if (pong.degraded) return;
      if (pong.start_over) this.#position = null;
      if (this.#position === null || pong.conversations?.length) await this.sync();
      else this.#position = pong.position;
      this.#store.tell('beat');
    });
  }

  // sync asks what has changed since the kept position, or for everything. Calls while
  // one is under way are answered by one more.
  sync() {
    if (this.#syncing) {
      this.#again = true;
      return this.#syncing;
    }
    this.#syncing = quietly(async () => {
      do {
        this.#again = false;
        await this.#syncOnce();
      } while (this.#again);
    }).finally(() => { this.#syncing = null; });
    return this.#syncing;
  }

  async #syncOnce() {
    for (;;) {
      const s = await this.#socket.ask('sync', this.#position ? { position: this.#position } : {});
      this.#store.clockAhead = s.server_time - Date.now();
      this.#store.limits = s.limits;
      if (s.full) this.#store.next = s.next ?? '';
      this.#rows(s.conversations);
      this.#store.total(s.unread_badge);
      for (const { conversation_id: id, last_seq: seq } of s.offline) this.#receipts.delivered(this.#store.get(id), seq);
      if (s.position.epoch) this.#position = s.position; // none while Redis is away
      this.#store.changed('synced');
      quietly(() => this.#store.people.keepUp(s.contacts_version));
      if (s.full && s.next) await this.#list('?filter=pinned'); // they stand first, however old
      if (s.full || !s.has_more) return;
    }
  }

  #rows(rows) {
    for (const r of rows) {
      if (r.last_message) this.#outgoing.seen(r.last_message);
      this.#store.row(r);
      this.#hole(this.#store.get(r.conversation_id));
    }
  }

  async #list(query) {
    const page = await this.#session.call('GET', `/v1/conversations${query}`);
    this.#rows(page.items);
    return page;
  }

  // know returns a conversation, and asks for one that the list did not bring; undefined
  // where there is none.
  async know(id) {
    const c = this.#store.get(id);
    if (!c?.peer && !c?.channel) {
      await quietly(async () => {
        this.#rows([await this.#session.call('GET', `/v1/conversations/${encodeURIComponent(id)}`)]);
      });
    }
    return this.#store.get(id);
  }

  // more loads the next page of the list.
  async more() {
    const { next } = this.#store;
    if (!next || !this.#socket.up) return;
    await quietly(async () => {
      const page = await this.#list(`?limit=50&before=${next}`);
      if (this.#store.next !== next) return; // asked twice, or begun anew meanwhile
      this.#store.next = page.next ?? '';
      this.#store.total(page.unread_badge);
    });
  }

  // open makes sure that a conversation has a window, and returns once it has.
  async open(c) {
    if (c.window || !this.#socket.up) return;
    await this.#once(c, () => this.#latest(c, Math.min(Math.max(50, c.unread + 20), pageSize)));
    this.#hole(c);
  }

  // back loads the page before the window.
  async back(c) {
    const top = first(c);
    if (!c.window?.more || full(c) || !this.#socket.up) return;
    await quietly(async () => {
      const page = await this.#socket.ask('history', { conversation_id: c.id, before_seq: top, limit: 50 });
      if (first(c) === top) this.#take(c, 'before', page);
    });
  }

  #hole(c) {
    if (!c?.window) return;
    if (have(c) < c.lastSeq || c.window.change < c.lastChange || c.window.deletion < c.deletions) this.#pull(c);
  }

  // pull fills a window up to the last seq, change and deletion that are known; it goes on
  // until there is nothing left.
  #pull(c) {
    this.#once(c, async () => {
      while (await this.#pullMessages(c) || await this.#pullChanges(c) || await this.#pullDeletions(c));
    });
  }

  // once does work on a conversation unless some is under way, and returns its end.
  #once(c, work) {
    if (!this.#pulling.has(c.id)) this.#pulling.set(c.id, quietly(work).finally(() => this.#pulling.delete(c.id)));
    return this.#pulling.get(c.id);
  }

  // Each of these asks for one page and says whether to go on; one that brings nothing
  // is asked again at the next heartbeat.
  async #pullMessages(c) {
    const from = have(c);
    if (from >= c.lastSeq) return false;
    if (c.lastSeq - from > farBehind) await this.#latest(c, 50);
    else this.#take(c, 'after', await this.#socket.ask('history', { conversation_id: c.id, after_seq: from, limit: pageSize }));
    return have(c) > from;
  }

  async #pullChanges(c) {
    const from = c.window.change;
    if (from >= c.lastChange) return false;
    const page = await this.#socket.ask('history', { conversation_id: c.id, after_change: from, limit: pageSize });
    for (const m of page.items) this.#store.revised(c, m);
    c.window.change = Math.max(c.window.change, page.change);
    return c.window.change > from;
  }

  async #pullDeletions(c) {
    const from = c.window.deletion;
    if (from >= c.deletions) return false;
    const page = await this.#socket.ask('deletions', { conversation_id: c.id, after: from, limit: pageSize });
    this.#store.deleted(c, page.items);
    return c.window.deletion > from;
  }

  // latest begins a window; what it holds is at least as new as what was known before.
  async #latest(c, limit) {
    const mark = { change: c.lastChange, deletion: c.deletions };
    this.#take(c, 'latest', await this.#socket.ask('history', { conversation_id: c.id, limit }), mark);
  }

  #take(c, where, page, mark) {
    for (const m of page.items) this.#outgoing.seen(m);
    this.#store.page(c, where, page, mark);
  }
}
