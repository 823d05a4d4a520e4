// What was begun to write in a conversation: kept in this tab at each key, and on the
// server when one pauses or leaves, for one's other devices.

import { quietly } from './api.js';
import { read, write } from './storage.js';

const pause = 1_500; // ms

export class Drafts {
  #socket;
  #store;
  #key;
  #base = new Map(); // conversation ID → the server's text as it was last seen here
  #timers = new Map(); // conversation ID → timer

  constructor(socket, store, device) {
    this.#socket = socket;
    this.#store = store;
    this.#key = (c) => `curlew.draft.${device}.${c.id}`;
  }

  // open is what there is to go on with.
  open(c) {
    const remote = c.settings.draft?.text ?? '';
    if (!this.#base.has(c.id)) this.#base.set(c.id, remote);
    return read(sessionStorage, this.#key(c), null) ?? remote;
  }

  // adopt is the text that another device has left, where nothing was written here since;
  // undefined where there is nothing to take over.
  adopt(c, shown) {
    const { draft } = c.settings;
    const remote = draft ? draft.text : '';
    const base = this.#base.get(c.id) ?? '';
    if (remote === undefined || remote === base) return undefined; // not readable just now, or no news
    this.#base.set(c.id, remote);
    if (shown !== base) return undefined;
    write(sessionStorage, this.#key(c), remote || null);
    return remote;
  }

  keep(c, text) {
    write(sessionStorage, this.#key(c), text || null);
    clearTimeout(this.#timers.get(c.id));
    this.#timers.set(c.id, setTimeout(() => this.#save(c), pause));
  }

  leave(c) { if (this.#timers.has(c.id)) this.#save(c); }

  // sent: more is what was written since.
  sent(c, more) {
    write(sessionStorage, this.#key(c), more || null);
    this.#save(c);
  }

  // save gives the server what it does not have. Where it cannot be had the tab still
  // has it; nothing can be set before the first message.
  #save(c) {
    clearTimeout(this.#timers.get(c.id));
    this.#timers.delete(c.id);
    const text = read(sessionStorage, this.#key(c), '');
    if (text === (this.#base.get(c.id) ?? '') || c.lastSeq === 0) return;
    const before = this.#base.get(c.id);
    this.#base.set(c.id, text);
    quietly(async () => {
      try {
        this.#store.settings(await this.#socket.ask('settings', { conversation_id: c.id, draft: text }));
      } catch (err) {
        this.#base.set(c.id, before);
        throw err;
      }
    });
  }
}
