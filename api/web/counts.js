// How far one's own messages in channels have come: how many members have received and
// read them. Asked for what is shown, at most once a second, when something moved.

import { quietly } from './api.js';
import { first } from './window.js';

const pause = 1_000; // ms between two questions
const most = 100; // messages of one question: the latest of one's own

export class Counts {
  #session;
  #store;
  #known = new Map(); // conversation ID → Map of seq → {recipients, delivered, read}
  #c = null;
  #timer = 0;

  constructor(session, store) {
    this.#session = session;
    this.#store = store;
    store.on('receipt', (c) => { if (c === this.#c) this.#soon(); });
    store.on('conversation', (changed) => { if (changed.has(this.#c) && this.#missing(this.#c)) this.#soon(); });
    store.on('beat', () => { if (this.#c) this.#soon(); }); // of large groups nothing is told
  }

  show(c) {
    if (this.#c) this.#trim(this.#c);
    this.#c = c?.channel ? c : null;
    if (this.#c) this.#soon();
  }

  // of is the count of a message, or null where it is not known.
  of(c, seq) { return this.#known.get(c.id)?.get(seq) ?? null; }

  stateOf(c, seq) {
    if (!c.channel) return this.#store.stateOf(c, seq);
    const r = this.of(c, seq);
    if (!r || r.recipients === 0) return 'stored';
    return r.read >= r.recipients ? 'read' : r.delivered >= r.recipients ? 'delivered' : 'stored';
  }

  // open are the seqs of one's own messages that not everybody is known to have read.
  #open(c) {
    const known = this.#known.get(c.id);
    return (c.window?.items ?? []).filter((m) => this.#store.mine(m) && !m.recalled_at && !m.deleted).slice(-most).map((m) => m.seq)
      .filter((seq) => { const r = known?.get(seq); return !r || r.read < r.recipients; });
  }

  // trim lets go of what the window has let go of.
  #trim(c) {
    const known = this.#known.get(c.id);
    for (const seq of known?.keys() ?? []) if (seq < first(c)) known.delete(seq);
  }

  #missing(c) { return this.#open(c).some((seq) => !this.of(c, seq)); }

  #soon() {
    this.#timer ||= setTimeout(() => quietly(async () => {
      this.#timer = 0;
      const c = this.#c;
      const seqs = c && document.visibilityState === 'visible' ? this.#open(c) : [];
      if (seqs.length === 0) return;
      const { items } = await this.#session.call('GET', `/v1/conversations/${c.id}/receipts?${seqs.map((seq) => `seq=${seq}`).join('&')}`);
      if (!this.#known.has(c.id)) this.#known.set(c.id, new Map());
      for (const r of items) this.#known.get(c.id).set(r.seq, r);
      this.#trim(c);
      this.#store.show(c);
      this.#store.tell('counts');
    }), pause);
  }
}
