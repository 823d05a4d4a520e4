// Who is online, of the people that are shown, and who types. The server tells the
// changes of whom one has asked for on this connection.

const most = 200; // users of one question
const watched = 1_000; // users whose changes the server tells on one connection: the latest asked for
const soon = 300; // ms in which questions are gathered
const again = 3_000; // ms after which "types" is repeated while it goes on

export class Presence {
  #socket;
  #store;
  #known = new Map(); // user ID → what the server said last
  #wanted = new Map(); // user ID → whether it was asked on this connection
  #timer = 0;

  constructor(socket, store) {
    this.#socket = socket;
    this.#store = store;
  }

  // of is the presence of a user: {online, last_seen}, or undefined where unknown.
  of(id) { return this.#socket.up ? this.#known.get(id) : undefined; }

  // want shows these users from now on. What somebody may see changes with the first
  // message between two: again asks anew.
  want(ids, anew = false) {
    for (const id of ids) if (id !== '0' && (anew || !this.#wanted.has(id))) this.#wanted.set(id, false);
    for (const id of this.#wanted.keys()) {
      if (this.#wanted.size <= watched) break;
      this.#wanted.delete(id);
      this.#known.delete(id);
    }
    this.#ask();
  }

  // anew asks for everybody: the connection is another, or pushes were lost.
  anew() { this.want([...this.#wanted.keys()], true); }

  push(presence) {
    this.#known.set(presence.user_id, presence);
    this.#store.changed('presence', presence.user_id);
  }

  #ask(wait = soon) {
    if (this.#timer) return;
    this.#timer = setTimeout(async () => {
      this.#timer = 0;
      const users = [...this.#wanted].filter(([, asked]) => !asked).map(([id]) => id).slice(0, most);
      if (users.length === 0 || !this.#socket.up) return;
      for (const id of users) this.#wanted.set(id, true);
      try {
        const { items } = await this.#socket.ask('presence', { users, subscribe: true });
        for (const p of items) this.push(p);
        this.#ask();
      } catch (err) {
        for (const id of users) this.#wanted.set(id, false);
        if (err.retryable && err.code !== 'disconnected') this.#ask(Math.max(err.after, 1_000));
      }
    }, wait);
  }
}

export class Typing {
  #socket;
  #store;
  #here = new Map(); // conversation ID → Map of user ID → timer
  #saying = null; // {id, at}: the conversation this user types in, and when it was last said

  constructor(socket, store) {
    this.#socket = socket;
    this.#store = store;
  }

  // who types in a conversation, by user ID.
  who(c) { return [...this.#here.get(c.id)?.keys() ?? []]; }

  push({ conversation_id: id, user_id: user, on, expires_ms: ms }) {
    this.stopped(id, user);
    if (on) {
      if (!this.#here.has(id)) this.#here.set(id, new Map());
      this.#here.get(id).set(user, setTimeout(() => this.stopped(id, user), ms));
    }
    this.#changed(id);
  }

  // stopped: somebody has sent what they typed, or said nothing for a while.
  stopped(id, user) {
    const here = this.#here.get(id);
    if (!here?.has(user)) return;
    clearTimeout(here.get(user));
    here.delete(user);
    this.#changed(id);
  }

  // say tells that this user types in c.
  say(c) {
    if (this.#saying && this.#saying.id !== c.id) this.end();
    if (this.#saying && Date.now() - this.#saying.at < again) return;
    this.#saying = { id: c.id, at: Date.now() };
    this.#tell(c.id, true);
  }

  end() {
    if (!this.#saying) return;
    this.#tell(this.#saying.id, false);
    this.#saying = null;
  }

  // Nobody misses it: it is said again, or ends by itself.
  #tell(id, on) { this.#socket.ask('typing', { conversation_id: id, on }).catch(() => {}); }

  #changed(id) {
    const c = this.#store.get(id);
    if (c) this.#store.changed('typing', c);
  }
}
