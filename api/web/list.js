// The list of conversations: the pinned, then the latest first, the channels of a group
// together; with what was said last, when, and how much of it is unread.

import { avatar, el, perFrame, reconcile, say, set, sign, tick } from './dom.js';
import { ago, clock, fullTime, textOf } from './format.js';
import { typingText } from './header.js';
import { noticeText } from './notice.js';
import { pictureOf, titleOf } from './pick.js';
import { told } from './store.js';

export class ListView {
  #store;
  #parts; // {presence, typing, open, menu}
  #list = document.getElementById('list');
  #empty = document.getElementById('list-empty');
  #chosen = null;
  #top;
  #synced = false;

  constructor(store, catchUp, parts) {
    this.#store = store;
    this.#parts = parts;
    const render = perFrame(() => this.#render());
    for (const name of ['list', 'typing', 'presence', 'connection']) store.on(name, render);
    store.on('synced', () => { this.#synced = true; this.#render(); });
    setInterval(() => this.#render(), 30_000); // "5 min" grows
    this.#list.addEventListener('click', (event) => this.#pick(event.target.closest('.row')));
    this.#list.addEventListener('keydown', (event) => this.#key(event));
    this.#list.addEventListener('contextmenu', (event) => {
      const row = event.target.closest('.row');
      if (!row) return;
      event.preventDefault();
      parts.menu(row, store.get(row.dataset.key));
    });
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
    const rows = this.#rows();
    (rows.find((r) => r.dataset.key === id) ?? rows[0] ?? document.getElementById('start-handle')).focus();
  }

  #rows() { return [...this.#list.querySelectorAll('.row')]; }

  #pick(row) {
    const c = row && this.#store.get(row.dataset.key);
    if (c) this.#parts.open(c);
  }

  #key(event) {
    const row = event.target.closest('.row');
    if (!row || event.ctrlKey || event.altKey || event.metaKey) return;
    const rows = this.#rows();
    const at = rows.indexOf(row);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to !== undefined) rows[to]?.focus();
    else if (event.key === 'Enter' || event.key === ' ') this.#pick(row);
    else return;
    event.preventDefault();
  }

  // grouped is the list with the channels of a group under its name, where it has more
  // than one: where the first of them stands.
  #grouped() {
    const items = [];
    const groups = new Map(); // group ID → its channels
    for (const c of this.#store.list()) {
      const id = c.channel?.group_id;
      if (!groups.has(id)) items.push(id ? id : c);
      if (id) groups.set(id, [...groups.get(id) ?? [], c]);
    }
    return items.flatMap((item) => {
      if (typeof item !== 'string') return [item];
      const channels = groups.get(item);
      if (channels.length === 1) return channels;
      channels.sort((a, b) => Boolean(b.channel.main) - Boolean(a.channel.main));
      return [{ id: `group ${item}`, head: channels[0].channel }, ...channels];
    });
  }

  #render() {
    const items = this.#grouped();
    const rows = items.filter((i) => !i.head);
    const now = this.#store.now();
    if (rows[0] !== this.#top && rows[0] === this.#chosen) this.#list.scrollTop = 0; // it has just moved there
    [this.#top] = rows;
    const stop = rows.includes(this.#chosen) ? this.#chosen : rows[0]; // where Tab enters the list
    const together = new Set(items.filter((i) => i.head).map((i) => i.head.group_id));
    reconcile(this.#list, items, (i) => i.id, (i) => (i.head ? createHead() : createRow()), (row, i) => {
      if (i.head) {
        avatar(row.firstElementChild, { id: i.head.group_id, nickname: i.head.group_name, avatar: i.head.group_avatar });
        say(row.lastElementChild, i.head.group_name);
        return;
      }
      set(row, 'aria-selected', String(i === this.#chosen));
      set(row, 'tabindex', i === stop ? '0' : '-1');
      this.#fill(row, i, now, together.has(i.channel?.group_id));
    });
    this.#empty.hidden = rows.length > 0;
    say(this.#empty, this.#synced ? `No conversations yet. Others reach you as @${this.#store.me.handle}.` : 'Loading…');
  }

  #fill(row, c, now, under) {
    const store = this.#store;
    const { presence, typing } = this.#parts;
    const part = (name) => row.querySelector(name);
    const waiting = c.sending.at(-1);
    const mine = waiting || (c.last && store.mine(c.last) && !told(c.last));
    const at = waiting ? waiting.at + store.clockAhead : c.last?.stored_at ?? now;
    row.classList.toggle('under', under);
    const online = Boolean(c.peer && presence.of(c.peer.id)?.online);
    set(row, 'aria-description', online ? 'online' : null);
    avatar(row.firstElementChild, under ? { id: c.channel.group_id, sign: c.channel.private ? 'lock' : 'hash' } : pictureOf(c), online);
    row.firstElementChild.classList.toggle('square', Boolean(c.channel));
    say(part('.name'), under ? c.channel.name || 'General' : titleOf(c, store.people));
    say(part('time'), ago(at, now));
    set(part('time'), 'title', fullTime(at));
    const types = typingText(c, store, typing);
    const draft = c === this.#chosen ? '' : c.settings.draft?.text ?? '';
    say(part('.line'), (types || (draft ? `Draft: ${draft}` : this.#line(c, waiting))).slice(0, 200).replace(/\s+/gu, ' '));
    part('.line').classList.toggle('typing', types !== '');
    part('.line').classList.toggle('draft', !types && draft !== '');
    tick(part('.ticks'), !mine || types || draft || c.last?.recalled_at ? '' : waiting?.state ?? (c.channel ? 'stored' : store.stateOf(c, c.last.seq)));
    sign(part('.signs'), [
      store.mentioned(c) ? ['at', 'mentions you'] : null, store.muted(c) ? ['mute', 'muted'] : null, store.pinned(c) ? ['pin', 'pinned'] : null,
    ]);
    const marked = store.marked(c) && c.unread === 0;
    say(part('.badge'), c.unread > 999 ? '999+' : c.unread ? String(c.unread) : marked ? '•' : '');
    set(part('.badge'), 'aria-label', c.unread ? `${c.unread} unread` : marked ? 'marked unread' : null);
    row.classList.toggle('unread', c.unread > 0 || marked);
    row.classList.toggle('muted', store.muted(c));
  }

  // line is what was said last, in a group with who said it.
  #line(c, waiting) {
    const { people, me } = this.#store;
    const m = waiting?.message ?? c.last;
    if (m?.type === 'notice') return noticeText(m.content, { me: me.id, called: (p) => people.called(p), clock });
    const named = c.channel && !waiting && m && !told(m) && !this.#store.mine(m);
    return named ? `${people.called(m.sender)}: ${textOf(m)}` : textOf(m);
  }
}

function createRow() {
  return el('li', { class: 'row', role: 'option' },
    el('span'),
    el('bdi', { class: 'name' }),
    el('time'),
    el('span', { class: 'preview' }, el('span', { class: 'ticks' }), el('span', { class: 'line', dir: 'auto' })),
    el('span', { class: 'end' }, el('span', { class: 'signs' }), el('span', { class: 'badge' })));
}

const createHead = () => el('li', { class: 'head', role: 'presentation' }, el('span', { class: 'avatar' }), el('bdi'));
