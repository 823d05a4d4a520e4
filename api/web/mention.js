// "@": people to mention are offered while one writes, and found in what was written.

import { quietly } from './api.js';
import { mentionPattern } from './content.js';
import { el, portrait } from './dom.js';

const offered = 6; // names at once
const patience = 2_000; // ms

export class Mention {
  #store;
  #groups;
  #c = null;
  #members = []; // profiles of who can be mentioned in #c
  #asked = ''; // the conversation and the version of its group that they are asked for
  #asking = null; // promise
  #found = [];
  #at = 0;
  #text = document.getElementById('text');
  #list = document.getElementById('mentions');

  constructor(store, groups) {
    this.#store = store;
    this.#groups = groups;
    this.#list.addEventListener('pointerdown', (event) => {
      const option = event.target.closest('[role=option]');
      event.preventDefault(); // the text keeps the focus
      if (option) this.#take([...this.#list.children].indexOf(option));
    });
    this.#text.addEventListener('blur', () => this.#offer([]));
  }

  show(c) {
    this.#c = c;
    this.#members = c?.peer ? [c.peer] : [];
    this.#asked = '';
    this.#offer([]);
  }

  // of is whom a text mentions, as a send says it. It waits, not long, for the members to
  // be known; whoever is not known then is not mentioned.
  async of(text) {
    const handles = new Set([...text.matchAll(mentionPattern)].map((found) => found[1].toLowerCase()));
    if (handles.size) await Promise.race([this.#load(), new Promise((resolve) => { setTimeout(resolve, patience); })]);
    const mentions = this.#members.filter((p) => handles.has(p.handle)).map((p) => p.id);
    const all = handles.has('all') && this.#groups.manages(this.#c);
    return { ...(mentions.length && { mentions: mentions.slice(0, 50) }), ...(all && { mentions_all: true }) };
  }

  async typed() {
    const begun = this.#begun();
    if (begun === null) {
      this.#offer([]);
      return;
    }
    await this.#load();
    if (this.#begun() !== begun) return;
    const wanted = begun.toLocaleLowerCase();
    const names = (p) => [p.handle, p.nickname, this.#store.people.called(p)];
    const found = this.#members.filter((p) => names(p).some((n) => n?.toLocaleLowerCase().startsWith(wanted)));
    if (this.#c.channel && this.#groups.manages(this.#c) && 'all'.startsWith(wanted)) found.push({ id: '', handle: 'all', nickname: 'Everybody' });
    const whole = found.length === 1 && found[0].handle === wanted; // there is nothing to add
    this.#offer(whole ? [] : found.slice(0, offered));
  }

  // begun is what follows an "@" before the caret, or null.
  #begun() { return /(?:^|\s)@([\p{L}\p{N}_.-]{0,32})$/u.exec(this.#text.value.slice(0, this.#text.selectionStart))?.[1] ?? null; }

  // load asks for the members once for each state of the group, however many keys are
  // pressed meanwhile; until they are there whoever is known is offered.
  #load() {
    const c = this.#c;
    const group = this.#groups.of(c);
    if (!group) return null;
    const key = `${c.id} ${group.version}`;
    if (key !== this.#asked) {
      this.#asked = key;
      this.#asking = quietly(async () => {
        let members = null;
        try {
          members = await this.#groups.everyone(group.id, c.channel.private ? c.id : '');
        } finally {
          if (!members && key === this.#asked) this.#asked = '';
        }
        if (key === this.#asked) this.#members = members.filter((p) => p.id !== this.#store.me.id);
      });
    }
    return this.#asking;
  }

  #offer(found) {
    this.#found = found;
    this.#at = 0;
    this.#list.hidden = found.length === 0;
    this.#list.replaceChildren(...found.map((p, i) => el('li', { role: 'option', id: `mention-${i}` },
      portrait(p.id ? p : { id: '0', nickname: '@' }), el('bdi', {}, p.id ? this.#store.people.called(p) : p.nickname), el('span', { class: 'quiet' }, `@${p.handle}`))));
    this.#choose(0);
  }

  #choose(i) {
    const n = this.#found.length;
    this.#at = n ? (i + n) % n : 0;
    [...this.#list.children].forEach((e, at) => e.setAttribute('aria-selected', String(at === this.#at)));
    if (n) this.#text.setAttribute('aria-activedescendant', `mention-${this.#at}`);
    else this.#text.removeAttribute('aria-activedescendant');
  }

  // pressed takes the keys that are the list's while it is open.
  pressed(event) {
    if (this.#list.hidden || event.isComposing) return false;
    if (event.key === 'ArrowDown') this.#choose(this.#at + 1);
    else if (event.key === 'ArrowUp') this.#choose(this.#at - 1);
    else if (event.key === 'Enter' || event.key === 'Tab') this.#take(this.#at);
    else if (event.key === 'Escape') this.#offer([]);
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  #take(i) {
    const { value, selectionStart: caret } = this.#text;
    const start = value.slice(0, caret).lastIndexOf('@');
    this.#text.setRangeText(`@${this.#found[i].handle} `, start, caret, 'end');
    this.#text.dispatchEvent(new Event('input'));
  }
}
