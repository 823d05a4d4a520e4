// One's own: profile, who may write to one, the devices that are logged in, and whom one
// has blocked.

import { el, portrait, say } from './dom.js';
import { ago, nameOf } from './format.js';
import { personLine } from './contacts.js';
import { ask, openPanel } from './panel.js';

export class MeView {
  #parts; // {session, store, out()}

  constructor(parts) {
    this.#parts = parts;
    document.getElementById('me').addEventListener('click', () => this.open());
  }

  // show puts who this is into the corner of the page.
  show() {
    const { me } = this.#parts.store;
    document.getElementById('me').replaceChildren(portrait(me), el('span', { class: 'who' },
      el('strong', {}, el('bdi', {}, nameOf(me))), el('span', { class: 'quiet' }, el('bdi', {}, `@${me.handle}`))));
  }

  open() {
    openPanel('You', (panel) => {
      const blocked = el('section');
      const devices = el('section');
      panel.body.append(this.#profile(panel), devices, blocked,
        el('div', { class: 'buttons' }, el('button', { type: 'button', id: 'leave', onclick: async () => { if (await this.#parts.out()) panel.close(); } }, 'Log out')));
      this.#devices(panel, devices);
      panel.on(this.#parts.store, ['people'], () => this.#blocked(panel, blocked));
    });
  }

  #profile(panel) {
    const { session, store } = this.#parts;
    const field = (label, name, more) => el('label', {}, label, el('input', { name, autocomplete: 'off', ...more }));
    const policy = el('select', { name: 'message_policy', disabled: true }, // until it is known
      el('option', { value: 'everyone' }, 'everybody'), el('option', { value: 'contacts' }, 'my contacts'));
    const save = el('button', { class: 'primary' }, 'Save');
    const saved = el('p', { class: 'quiet', role: 'status' });
    const form = el('form', {
      class: 'stack', onsubmit: (event) => {
        event.preventDefault();
        panel.run(async () => {
          const { message_policy: mine, ...profile } = await session.call('PATCH', '/v1/users/me', Object.fromEntries(new FormData(form)));
          policy.value = mine;
          store.me = profile;
          session.learn(profile);
          store.people.learn(profile);
          this.show();
          say(saved, 'Saved. New messages and lists show it.');
        }, save);
      },
    },
    field('Name', 'nickname', { value: store.me.nickname, maxlength: '64', required: true }),
    field('Picture', 'avatar', { value: store.me.avatar ?? '', maxlength: '512', type: 'url', placeholder: 'https://…' }),
    el('p', { class: 'quiet' }, 'This page shows pictures of its own server only; other apps may show others.'),
    el('label', {}, 'Messages from', policy), save, saved);
    panel.run(async () => {
      policy.value = (await session.call('GET', '/v1/users/me')).message_policy;
      policy.disabled = false;
    });
    return el('section', {}, form);
  }

  async #devices(panel, section) {
    const { session, store } = this.#parts;
    const list = el('ul', { class: 'people' });
    section.replaceChildren(el('h3', {}, 'Where you are logged in'), list);
    const answer = await panel.run(() => session.call('GET', '/v1/auth/devices'));
    for (const d of answer?.items.sort((a, b) => b.seen_at - a.seen_at) ?? []) {
      const own = d.device === session.device;
      const name = d.platform || 'Unknown platform';
      const end = el('button', {
        type: 'button', 'aria-label': `Log out ${name} ${d.device}`, onclick: () => panel.run(async () => {
          if (!await ask('Log out there?', `${name} (${d.device}) is logged out within seconds.`, 'Log out')) return;
          await session.call('DELETE', `/v1/auth/devices/${d.device}`);
          await this.#devices(panel, section);
        }, end),
      }, 'Log out');
      list.append(el('li', { 'data-device': d.device }, el('span', { class: 'who' }, el('strong', {}, own ? `${name}, this one` : name),
        el('span', { class: 'quiet' }, [`seen ${ago(d.seen_at, store.now())}`, d.device].join(' · '))), own ? null : end));
    }
  }

  #blocked(panel, section) {
    const { people } = this.#parts.store;
    section.replaceChildren();
    if (people.blocked.size === 0) return;
    const list = el('ul', { class: 'people' });
    section.append(el('h3', {}, 'Blocked'), list);
    for (const id of people.blocked) {
      const unblock = el('button', { type: 'button', onclick: () => panel.run(() => people.unblock(id), unblock) }, 'Unblock');
      const add = (profile) => list.append(personLine(profile, people.called(profile), `@${profile.handle}`, unblock));
      if (people.get(id)) add(people.get(id));
      else panel.run(async () => add(await people.fetch(id)));
    }
  }
}
