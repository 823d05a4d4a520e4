// What is done to messages that are there: taken back, edited, reacted to, deleted for
// oneself. The answer says that it is accepted; the push that everybody gets shows it.

import { random, WireError } from './api.js';

const most = 256; // changes whose outcome is waited for: a push that is lost never tells it
const patience = 15_000; // ms for a connection to come back

export class Changes {
  #socket;
  #store;
  #asked = new Map(); // client change ID → what to say where it fails

  constructor(socket, store) {
    this.#socket = socket;
    this.#store = store;
  }

  recall(m) { return this.#ask(m, { kind: 'recall' }, 'Not taken back'); }

  // edit is refused where somebody else's edit came after what was seen.
  edit(m, text) { return this.#ask(m, { kind: 'edit', content: { text }, base_change: m.change ?? 0 }, 'Not edited'); }

  react(m, reaction, on = true) { return this.#ask(m, { kind: on ? 'react' : 'unreact', reaction }, 'No reaction'); }

  async delete(m) {
    await this.#keepAsking('delete_messages', { conversation_id: m.conversation_id, seqs: [m.seq] });
  }

  async #ask(m, change, failed) {
    const id = random(16);
    if (this.#asked.size >= most) this.#asked.delete(this.#asked.keys().next().value);
    this.#asked.set(id, failed);
    try {
      await this.#keepAsking('change', { client_change_id: id, conversation_id: m.conversation_id, seq: m.seq, ...change });
    } catch (err) {
      this.#asked.delete(id);
      throw err;
    }
  }

  // keepAsking asks again, under the same ID, on the next connection; that is harmless.
  async #keepAsking(cmd, data) {
    const until = Date.now() + patience;
    for (;;) {
      try {
        return await this.#socket.ask(cmd, data);
      } catch (err) {
        if (!(err instanceof WireError) || !err.retryable || Date.now() > until) throw err;
        await new Promise((resolve) => { setTimeout(resolve, Math.max(err.after, 500)); });
      }
    }
  }

  // changed and rejected settle what was asked here.
  changed({ client_change_id: id }) { this.#asked.delete(id); }

  rejected({ client_change_id: id, message }) {
    if (!this.#asked.has(id)) return;
    this.#store.tell('notice', `${this.#asked.get(id)}: ${message}.`);
    this.#asked.delete(id);
  }
}
