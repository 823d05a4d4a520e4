// The list of conversations: the latest first, with what was said last, when, and how
// much of it is unread.

import { avatar, el, reconcile, say, set, tick } from './dom.js';
import { ago, fullTime, nameOf, textOf } from './format.js';

export class ListView {
  #store;
  #catchUp;
  #open;
  #list = document.getElementById('list');
  #empty = document.getElementById('list-empty');
  #chosen = null;
  #top;
  #synced = false;

  constructor(store, catchUp, open) {
    this.#store = store;
    this.#catchUp = catchUp;
    this.#open = open;
    store.on('list', () => this.#render());
    store.on('synced', () => { this.#synced = true; this.#render(); });
    setInterval(() => this.#render(), 30_000); // "5 min" grows
    this.#list.addEventListener('click', (event) => this.#pick(event.target.closest('.row')));
    this.#list.addEventListener('keydown', (event) => this.#key(event));
    this.#list.addEventListener('scroll', () => {
      const { scrollTop, clientHeight, scrollHeight } = this.#list;
      if (scrollTop + clientHeight > scrollHeight - 400) catchUp.more();
    }, { passive: true });
  }

  choose(c) {
    this.#chosen = c;
    this.#render();
  }

  // focus goes to the row of a conversation, else to the first.
  focus(id) {
    const rows = [...this.#list.children];
    (rows.find((r) => r.dataset.key === id) ?? rows[0] ?? document.getElementById('start-handle')).focus();
  }

  #pick(row) {
    const c = row && this.#store.get(row.dataset.key);
    if (c) this.#open(c);
  }

  #key(event) {
    const row = event.target.closest('.row');
    if (!row || event.ctrlKey || event.altKey || event.metaKey) return;
    const to = {
      ArrowDown: () => row.nextElementSibling,
      ArrowUp: () => row.previousElementSibling,
      Home: () => this.#list.firstElementChild,
      End: () => this.#list.lastElementChild,
    }[event.key];
    if (to) {
      to()?.focus();
    } else if (event.key === 'Enter' || event.key === ' ') {
      this.#pick(row);
    } else {
      return;
    }
    event.preventDefault();
  }

  #render() {
    const items = this.#store.list();
    const now = this.#store.now();
    if (items[0] !== this.#top && items[0] === this.#chosen) this.#list.scrollTop = 0; // it has just moved there
    [this.#top] = items;
    const stop = items.includes(this.#chosen) ? this.#chosen : items[0]; // where Tab enters the list
    reconcile(this.#list, items, (c) => c.id, createRow, (row, c) => {
      set(row, 'aria-selected', String(c === this.#chosen));
      set(row, 'tabindex', c === stop ? '0' : '-1');
      this.#fill(row, c, now);
    });
    this.#empty.hidden = items.length > 0;
    say(this.#empty, this.#synced ? `No conversations yet. Others reach you as @${this.#store.me.handle}.` : 'Loading…');
  }

  #fill(row, c, now) {
    const part = (name) => row.querySelector(name);
    const waiting = c.sending.at(-1);
    const mine = waiting || (c.last && this.#store.mine(c.last));
    const at = waiting ? waiting.at + this.#store.clockAhead : c.last?.stored_at ?? now;
    avatar(row.firstElementChild, c.peer);
    say(part('.name'), nameOf(c.peer));
    say(part('time'), ago(at, now));
    set(part('time'), 'title', fullTime(at));
    say(part('.line'), (waiting?.text ?? textOf(c.last)).slice(0, 200).replace(/\s+/gu, ' '));
    tick(part('.ticks'), !mine ? '' : waiting?.state ?? this.#store.stateOf(c, c.last.seq));
    say(part('.badge'), c.unread > 999 ? '999+' : c.unread ? String(c.unread) : '');
    set(part('.badge'), 'aria-label', c.unread ? `${c.unread} unread` : null);
    row.classList.toggle('unread', c.unread > 0);
  }
}

function createRow() {
  return el('li', { class: 'row', role: 'option' },
    el('span'),
    el('bdi', { class: 'name' }),
    el('time'),
    el('span', { class: 'preview' }, el('span', { class: 'ticks' }), el('span', { class: 'line', dir: 'auto' })),
    el('span', { class: 'badge' }));
}
