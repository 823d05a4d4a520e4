// Telling how far this user has come: delivered for what this device knows of, read for
// what is on the screen. Both are cumulative and each is said once a second and
// conversation at most; one that is lost is said again with the next.

const interval = 1_000; // ms

export class Receipts {
  #socket;
  #store;
  #due = new Map(); // conversation ID → {delivered, read: seqs to say; last: when something was said; timer}

  constructor(socket, store) {
    this.#socket = socket;
    this.#store = store;
  }

  // delivered: the list or the window shows the conversation up to seq. The page keeps
  // no messages of its own, so there is nothing that it could still lose.
  delivered(c, seq) {
    if (!c || seq <= c.deliveredSeq) return;
    this.#of(c).delivered = Math.max(this.#of(c).delivered, seq);
    this.#soon(c);
  }

  // read: the conversation was open and visible, with seq on the screen.
  read(c, seq) {
    if (seq <= c.readSeq) return;
    this.#of(c).read = Math.max(this.#of(c).read, seq);
    this.#store.readTo(c, seq);
    this.#soon(c, true);
  }

  // reconnected says again what had no answer.
  reconnected() {
    for (const id of this.#due.keys()) this.#soon(this.#store.get(id));
  }

  #of(c) {
    if (!this.#due.has(c.id)) this.#due.set(c.id, { delivered: 0, read: 0, last: 0, timer: 0 });
    return this.#due.get(c.id);
  }

  #soon(c, atOnce = false) {
    const due = this.#of(c);
    if (due.timer) return;
    const since = Date.now() - due.last;
    due.timer = setTimeout(() => this.#say(c, due), atOnce ? Math.max(0, interval - since) : interval);
  }

  async #say(c, due) {
    due.timer = 0;
    const { read, delivered } = due;
    if (!this.#socket.up || (!read && delivered <= c.deliveredSeq)) return;
    due.last = Date.now();
    const [cmd, seq] = read ? ['read', read] : ['ack', delivered];
    try {
      await this.#socket.ask(cmd, { conversation_id: c.id, seq });
      c.deliveredSeq = Math.max(c.deliveredSeq, seq);
      if (due.read === read) due.read = 0;
    } catch (err) {
      if (!err.retryable) due.read = due.delivered = 0;
    }
    if (due.read || due.delivered > c.deliveredSeq) this.#soon(c);
  }
}
