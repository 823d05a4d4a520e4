// Contacts: who asks to be one, who is one, whom one has asked; and what one can do about
// one person.

import { el, portrait, say } from './dom.js';
import { nameOf, seenText } from './format.js';
import { ask, openPanel } from './panel.js';

// personLine is somebody in a list of a panel, with buttons behind the name.
export function personLine(profile, called, detail, ...buttons) {
  return el('li', { 'data-user': profile.id }, portrait(profile),
    el('span', { class: 'who' }, el('strong', {}, el('bdi', {}, called)), detail ? el('span', { class: 'quiet' }, detail) : null),
    ...buttons);
}

const button = (text, onclick, kind = '') => el('button', { type: 'button', class: kind, onclick }, text);

export class ContactsView {
  #parts; // {store, presence, chatWith(profile)}
  #button = document.getElementById('contacts');

  constructor(parts) {
    this.#parts = parts;
    this.#button.addEventListener('click', () => this.open());
    parts.store.on('people', () => this.#count());
  }

  // count shows at the button how many ask to be a contact.
  #count() {
    const n = this.#parts.store.people.of('incoming').length;
    say(this.#button.querySelector('.badge'), n ? String(n) : '');
    this.#button.setAttribute('aria-label', n ? `Contacts, ${n} ${n === 1 ? 'request' : 'requests'}` : 'Contacts');
  }

  open() {
    const { store, presence } = this.#parts;
    const { people } = store;
    openPanel('Contacts', (panel) => {
      const handle = el('input', { 'aria-label': 'Exact handle', placeholder: 'Exact handle', required: true, autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', maxlength: '64' });
      const message = el('input', { 'aria-label': 'A word to them', placeholder: 'A word to them; optional', maxlength: '200', autocomplete: 'off' });
      const submit = el('button', { class: 'primary' }, 'Ask');
      const told = el('p', { class: 'quiet', role: 'status' });
      const form = el('form', {
        class: 'stack', onsubmit: (event) => {
          event.preventDefault();
          const name = handle.value.trim().replace(/^@/u, '');
          panel.run(async () => {
            const { state, user } = await people.request({ handle: name }, message.value.trim());
            say(told, state === 'contact' ? `${nameOf(user)} is your contact.` : `${nameOf(user)} has been asked.`);
            form.reset();
          }, submit, { not_found: `Nobody is called ${name}. It must be the whole handle.` });
        },
      }, el('h3', {}, 'Add somebody'), el('div', { class: 'inline' }, handle, submit), message, told);
      const lists = el('div', { class: 'stack' });
      panel.body.append(form, lists);
      presence.want(people.of('contact').map((k) => k.user.id));
      panel.on(store, ['people', 'presence'], () => {
        lists.replaceChildren(
          this.#section('Requests to you', people.of('incoming'), (k) => this.#line(k, k.message || `@${k.user.handle}`,
            button('Accept', (e) => panel.run(() => people.accept(k), e.currentTarget), 'primary'), button('Refuse', (e) => panel.run(() => people.refuse(k), e.currentTarget)))),
          this.#section('Your contacts', people.of('contact'), (k) => this.#line(k, seenText(presence.of(k.user.id), store.now()) || `@${k.user.handle}`,
            button('Chat', () => { panel.close(); this.#parts.chatWith(k.user); }), button('About', () => this.about(k.user))), 'Nobody yet. Ask somebody by their handle.'),
          this.#section('Asked by you', people.of('outgoing'), (k) => this.#line(k, `@${k.user.handle}`,
            button('Withdraw', (e) => panel.run(() => people.withdraw(k), e.currentTarget)))));
      });
    });
  }

  #section(title, contacts, line, none = '') {
    if (contacts.length === 0 && !none) return '';
    return el('section', {}, el('h3', {}, title),
      contacts.length ? el('ul', { class: 'people' }, ...contacts.map(line)) : el('p', { class: 'quiet' }, none));
  }

  #line(contact, detail, ...buttons) { return personLine(contact.user, this.#parts.store.people.called(contact.user), detail, ...buttons); }

  // about shows one person, and what this user has to do with them.
  about(profile) {
    const { store, presence } = this.#parts;
    const { people } = store;
    openPanel('', (panel) => {
      const head = el('div', { class: 'about-head' });
      const remark = el('input', { 'aria-label': 'Name that only you see', placeholder: 'Name that only you see', maxlength: '64', value: people.contacts.get(profile.id)?.remark ?? '' });
      const form = el('form', {
        class: 'inline', onsubmit: (event) => {
          event.preventDefault();
          panel.run(() => people.remark(profile.id, remark.value.trim()), form.lastElementChild);
        },
      }, remark, el('button', {}, 'Save'));
      const buttons = el('div', { class: 'buttons' });
      panel.body.append(head, form, buttons);
      presence.want([profile.id]);
      panel.on(store, ['people', 'presence'], () => {
        const there = presence.of(profile.id);
        panel.title(people.called(profile));
        const called = people.called(profile) === nameOf(profile) ? '' : nameOf(profile);
        head.replaceChildren(portrait(profile, Boolean(there?.online)), el('div', { class: 'who' }, el('strong', {}, el('bdi', {}, nameOf(profile))),
          el('span', { class: 'quiet' }, [called && 'their own name', `@${profile.handle}`, seenText(there, store.now())].filter(Boolean).join(' · '))));
        form.hidden = people.state(profile.id) !== 'contact';
        buttons.replaceChildren(...this.#deeds(panel, profile));
      });
    });
  }

  #deeds(panel, profile) {
    const { store, chatWith } = this.#parts;
    const { people } = store;
    const contact = people.contacts.get(profile.id);
    const act = (text, work, kind) => button(text, (event) => panel.run(work, event.currentTarget), kind);
    const state = people.state(profile.id);
    const name = people.called(profile);
    return [
      button('Chat', () => { panel.close(); chatWith(profile); }, 'primary'),
      ['none', 'refused'].includes(state) ? act('Ask to be contacts', () => people.request({ user_id: profile.id })) : null,
      state === 'outgoing' ? act('Withdraw the request', () => people.withdraw(contact)) : null,
      state === 'incoming' ? act('Accept the request', () => people.accept(contact)) : null,
      state === 'contact' ? act('Remove from contacts', async () => {
        if (await ask('Remove the contact?', `You and ${name} are contacts no more, on both sides.`, 'Remove')) await people.remove(profile.id);
      }) : null,
      people.blocked.has(profile.id) ? act('Unblock', () => people.unblock(profile.id))
        : act('Block', async () => {
          if (await ask('Block them?', `${name} can send you nothing, and sees neither whether you are online nor that you type.`, 'Block')) await people.block(profile.id);
        }, 'danger'),
    ].filter(Boolean);
  }
}
