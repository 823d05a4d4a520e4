// Choosing: one of the conversations, or some people.

import { avatar, el, portrait, reconcile, say } from './dom.js';
import { openPanel } from './panel.js';

// titleOf is what a conversation is called, and pictureOf whose picture stands for it.
export function titleOf(c, people) {
  if (!c.channel) return people.called(c.peer);
  return c.channel.name ? `${c.channel.group_name} · ${c.channel.name}` : c.channel.group_name;
}

export const pictureOf = (c) => (c.channel
  ? { id: c.channel.group_id, nickname: c.channel.group_name, avatar: c.channel.group_avatar }
  : c.peer);

// choose shows the conversations one may write in, and calls done with one of them.
export function choose(title, store, done) {
  openPanel(title, (panel) => {
    const all = store.list().filter((c) => !c.left);
    const list = el('ul', { class: 'people' });
    const field = el('input', { type: 'search', placeholder: 'Search', 'aria-label': 'Search the conversations', autocomplete: 'off', oninput: show });
    panel.body.append(field, list);
    function show() {
      const wanted = field.value.trim().toLocaleLowerCase();
      const items = all.filter((c) => titleOf(c, store.people).toLocaleLowerCase().includes(wanted));
      reconcile(list, items, (c) => c.id,
        (c) => el('li', {}, el('button', { type: 'button', class: 'plain pick', onclick: () => { panel.close(); done(c); } }, el('span'), el('bdi'))),
        (li, c) => {
          avatar(li.querySelector('span'), pictureOf(c));
          say(li.querySelector('bdi'), titleOf(c, store.people));
        });
    }
    show();
  });
}

// PeopleField gathers people: those offered to tick, and others by their exact handle.
export class PeopleField {
  element;
  #chosen = new Map(); // user ID → profile
  #list = el('ul', { class: 'people' });

  // offered are profiles; without are IDs that are not taken; with others somebody else
  // can be named.
  constructor(panel, people, { offered = people.of('contact').map((k) => k.user), without = [], others = true }) {
    for (const profile of offered) if (!without.includes(profile.id)) this.#offer(profile, people, false);
    this.element = el('fieldset', { class: 'picks' }, el('legend', {}, 'Members'), this.#list,
      others ? this.#others(panel, people, without) : null);
  }

  #others(panel, people, without) {
    const handle = el('input', { placeholder: 'Somebody else: exact handle', 'aria-label': 'Exact handle', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', maxlength: '64' });
    const add = el('button', { type: 'button', onclick: () => find() }, 'Add');
    const find = () => panel.run(async () => {
      const name = handle.value.trim().replace(/^@/u, '');
      if (!name) return;
      const profile = await people.find(name);
      if (!without.includes(profile.id)) this.#offer(profile, people, true);
      handle.value = '';
    }, add, { not_found: 'Nobody is called that. It must be the whole handle.' });
    handle.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter') return;
      event.preventDefault(); // of the form around it
      find();
    });
    return el('div', { class: 'inline' }, handle, add);
  }

  get ids() { return [...this.#chosen.keys()]; }

  #offer(profile, people, chosen) {
    const there = [...this.#list.querySelectorAll('input')].find((i) => i.value === profile.id);
    const box = there ?? el('input', {
      type: 'checkbox', value: profile.id, onchange: () => (box.checked ? this.#chosen.set(profile.id, profile) : this.#chosen.delete(profile.id)),
    });
    if (!there) {
      this.#list.append(el('li', {}, el('label', {}, box, portrait(profile), el('bdi', {}, people.called(profile)), el('span', { class: 'quiet' }, `@${profile.handle}`))));
    }
    if (chosen) {
      box.checked = true;
      this.#chosen.set(profile.id, profile);
    }
  }
}
