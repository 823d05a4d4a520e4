// A subject that tells listeners of changes, once per turn of the event loop however
// many there were.

export class Events {
  #listeners = new Map();
  #due = new Map();

  // on returns what ends it.
  on(name, listener) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(listener);
    return () => { this.#listeners.get(name).delete(listener); };
  }

  // changed tells of name soon; details of the same turn are gathered in a set.
  changed(name, detail) {
    if (this.#due.size === 0) queueMicrotask(() => this.#flush());
    if (!this.#due.has(name)) this.#due.set(name, new Set());
    this.#due.get(name).add(detail);
  }

  // tell tells of name at once.
  tell(name, detail) {
    for (const f of this.#listeners.get(name) ?? []) f(detail);
  }

  #flush() {
    const due = this.#due;
    this.#due = new Map();
    for (const [name, details] of due) this.tell(name, details);
  }
}
