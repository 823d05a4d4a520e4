// Messages on their way. Each keeps its client message ID through every resend, so it
// appears once however often the connection is lost. The queue is kept in the browser
// under the device, so neither a reload nor a closed tab loses it, and what a device that was
// logged out has left goes out from the user's next one.

import { random } from './api.js';
import { isRemembered } from './session.js';
import { keysOf, read, write } from './storage.js';

const prefix = 'curlew.outgoing.'; // and the device: where its queue is kept
const maxQueue = 256; // not yet stored, over all conversations; beyond it send refuses
const pause = 100; // ms at least before what was refused for now is sent again
const resendAfter = 20_000; // ms an accepted message waits for its place before it is asked for again

export class Outgoing {
  #store;
  #socket;
  #key;
  #queue = []; // {id, conversation, peer, message, at, state, error, since, asked}
  #hold = 0; // the server said not before
  #timer;

  constructor(store, socket, device) {
    this.#store = store;
    this.#socket = socket;
    this.#key = prefix + device;
    for (const key of keysOf(localStorage)) {
      const { user, items } = key.startsWith(prefix) ? read(localStorage, key, {}) : {};
      const orphan = user === store.me.id && !isRemembered(key.slice(prefix.length));
      if (!items || (key !== this.#key && !orphan)) continue;
      for (const o of items) this.#add({ ...o, state: o.error ? 'failed' : 'sending' });
      if (orphan && this.#keep()) write(localStorage, key, null);
    }
  }

  get length() { return this.#queue.length; }

  // send queues a message for a conversation: {type, content} with reply_to (a quote),
  // forward and forwarded_from, mentions, mentions_all; false where too many wait or the
  // browser cannot keep it.
  send(c, message) {
    const item = { id: random(16), conversation: c.id, peer: c.peer, message, at: Date.now(), state: 'sending' };
    if (this.#queue.length >= maxQueue) return false;
    this.#add(item);
    if (!this.#keep()) {
      this.#remove(item);
      return false;
    }
    this.flush();
    return true;
  }

  // again sends under a new ID what was refused for good; discard gives it up.
  again(item) {
    this.#remove(item);
    this.#add({ ...item, id: random(16), at: Date.now(), state: 'sending', error: undefined });
    this.#keep();
    this.flush();
  }

  discard(item) {
    this.#remove(item);
    this.#keep();
  }

  clear() { write(localStorage, this.#key, null); }

  // reconnected sends again whatever has no place yet.
  reconnected() {
    for (const o of this.#queue) if (o.state !== 'failed') Object.assign(o, { state: 'sending', asked: false });
    this.flush();
  }

  // overdue asks again for messages whose place was never told.
  overdue() {
    for (const o of this.#queue) {
      if (o.state === 'accepted' && Date.now() - o.since > resendAfter) o.state = 'sending';
    }
    this.flush();
  }

  // flush sends what is due: of each conversation one at a time, so that none overtakes
  // another even where one is refused for now.
  flush() {
    clearTimeout(this.#timer);
    if (!this.#socket.up) return;
    const wait = this.#hold - Date.now();
    if (wait > 0) {
      this.#timer = setTimeout(() => this.flush(), wait);
      return;
    }
    const busy = new Set();
    for (const o of this.#queue) {
      if (o.state !== 'sending' || busy.has(o.conversation)) continue;
      busy.add(o.conversation);
      if (!o.asked) this.#ask(o);
    }
  }

  async #ask(o) {
    o.asked = true;
    try {
      const sent = await this.#socket.ask('send', {
        client_msg_id: o.id, to: o.peer ? { user_id: o.peer.id } : { conversation_id: o.conversation }, ...wireOf(o.message),
      });
      Object.assign(o, { asked: false, state: 'accepted', since: Date.now() });
      if (sent.state === 'stored') this.stored(sent);
    } catch (err) {
      o.asked = false;
      if (err.code === 'disconnected') return; // reconnected() sends it again
      // After "unauthenticated" the server closes, and a newer token may help.
      if (err.retryable || err.code === 'unauthenticated') this.#hold = Date.now() + Math.max(err.after, pause);
      else this.#fail(o, err);
    }
    this.#store.show(this.#store.get(o.conversation));
    this.flush();
  }

  // stored settles a message that has its place. One that is not in the queue is another
  // device's, or was settled before.
  stored({ client_msg_id: id, conversation_id, seq, message_id, stored_at }) {
    const o = this.#find(id);
    if (!o) return;
    this.discard(o);
    this.#store.stored({
      conversation_id, seq, message_id, stored_at, client_msg_id: id,
      sender: this.#store.me, ...o.message, forward: undefined,
    });
  }

  // seen settles what the server shows as stored; the message itself comes with it.
  seen({ client_msg_id: id }) {
    const o = this.#find(id);
    if (o) this.discard(o);
  }

  // rejected: accepted, and yet it will never appear.
  rejected({ client_msg_id: id, message }) {
    const o = this.#find(id);
    if (o) this.#fail(o, { message });
  }

  #find(id) { return this.#queue.find((o) => o.id === id); }

  #fail(o, { message }) {
    Object.assign(o, { state: 'failed', error: message });
    this.#keep();
    this.#store.show(this.#store.get(o.conversation));
  }

  #add(o) {
    this.#queue.push(o);
    const c = this.#store.ensure(o.conversation);
    c.peer ??= o.peer;
    c.sending.push(o);
    this.#store.show(c);
  }

  #remove(o) {
    this.#queue = this.#queue.filter((q) => q !== o);
    const c = this.#store.get(o.conversation);
    c.sending = c.sending.filter((q) => q !== o);
    this.#store.show(c);
  }

  #keep() {
    const kept = this.#queue.map(({ id, conversation, peer, message, at, error }) => ({ id, conversation, peer, message, at, error }));
    return write(localStorage, this.#key, kept.length ? { user: this.#store.me.id, items: kept } : null);
  }
}

// wireOf is a message as send takes it.
function wireOf({ type, content, reply_to: quote, forward, mentions, mentions_all }) {
  if (forward) return { forward };
  return { type, content, ...(quote && { reply_to: { seq: quote.seq } }), ...(mentions?.length && { mentions }), ...(mentions_all && { mentions_all }) };
}
