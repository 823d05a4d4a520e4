// Keeping up: a sync from the kept position after each connect, pushes while connected,
// a pull where a seq shows a hole, and a heartbeat that finds what no push told. Push
// may fail, pull repairs.

import { WireError } from './api.js';

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

  constructor(session, socket, store, outgoing, receipts) {
    this.#session = session;
    this.#socket = socket;
    this.#store = store;
    this.#outgoing = outgoing;
    this.#receipts = receipts;
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
      case 'message': {
        this.#outgoing.seen(data);
        const news = data.seq > (c?.lastSeq ?? 0);
        store.message(data);
        this.#hole(store.get(data.conversation_id));
        if (!store.mine(data)) {
          this.#receipts.delivered(store.get(data.conversation_id), data.seq);
          if (news) store.tell('arrived', data);
        }
        break;
      }
      case 'stored':
        this.#outgoing.stored(data);
        this.#hole(c);
        break;
      case 'rejected':
        this.#outgoing.rejected(data);
        break;
      case 'receipt':
        if (c && data.user_id !== store.me.id) store.peerAt(c, data.delivered_seq, data.read_seq);
        break;
      case 'read_self':
        if (c && data.delivered_seq) c.deliveredSeq = Math.max(c.deliveredSeq, data.delivered_seq);
        if (c && data.read_seq) store.readTo(c, data.read_seq);
        break;
      case 'nudge':
        this.beat();
        break;
      default:
    }
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
      this.#store.total(s.unread_total);
      for (const { conversation_id: id, last_seq: seq } of s.offline) this.#receipts.delivered(this.#store.get(id), seq);
      if (s.position.epoch) this.#position = s.position; // none while Redis is away
      this.#store.changed('synced');
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

  // know asks about one conversation that the list did not bring.
  async know(id) {
    await quietly(async () => {
      this.#rows([await this.#session.call('GET', `/v1/conversations/${encodeURIComponent(id)}`)]);
    });
  }

  // more loads the next page of the list.
  async more() {
    const { next } = this.#store;
    if (!next || !this.#socket.up) return;
    await quietly(async () => {
      const page = await this.#session.call('GET', `/v1/conversations?limit=50&before=${next}`);
      if (this.#store.next !== next) return; // asked twice, or begun anew meanwhile
      this.#store.next = page.next ?? '';
      this.#rows(page.items);
      this.#store.total(page.unread_total);
    });
  }

  // open makes sure that a conversation has a window, and returns once it has.
  async open(c) {
    if (c.window || !this.#socket.up) return;
    await quietly(async () => {
      const limit = Math.min(Math.max(50, c.unread + 20), pageSize);
      this.#take(c, 'latest', await this.#socket.ask('history', { conversation_id: c.id, limit }));
    });
    this.#hole(c);
  }

  // back loads the page before the window.
  async back(c) {
    const first = this.#store.first(c);
    if (!c.window?.more || this.#store.full(c) || !this.#socket.up) return;
    await quietly(async () => {
      const page = await this.#socket.ask('history', { conversation_id: c.id, before_seq: first, limit: 50 });
      if (this.#store.first(c) === first) this.#take(c, 'before', page);
    });
  }

  #hole(c) {
    if (c?.window && this.#store.have(c) < c.lastSeq) this.#pull(c);
  }

  // pull fills a window up to the last seq that is known.
  #pull(c) {
    if (this.#pulling.has(c.id)) return; // it goes on until there is nothing left
    this.#pulling.set(c.id, quietly(async () => {
      for (;;) {
        const have = this.#store.have(c);
        if (!c.window || have >= c.lastSeq) return;
        const far = c.lastSeq - have > farBehind;
        const ask = far ? { limit: 50 } : { after_seq: have, limit: pageSize };
        const page = await this.#socket.ask('history', { conversation_id: c.id, ...ask });
        this.#take(c, far ? 'latest' : 'after', page);
        if (this.#store.have(c) === have) return; // the next heartbeat asks again
      }
    }).finally(() => this.#pulling.delete(c.id)));
  }

  #take(c, where, page) {
    for (const m of page.items) this.#outgoing.seen(m);
    this.#store.page(c, where, page);
  }
}

// quietly lets a request fail that is made again anyway: by the next connection, the
// next heartbeat, or the next push.
async function quietly(work) {
  try {
    await work();
  } catch (err) {
    if (!(err instanceof WireError)) throw err;
  }
}
