// Groups: making one, getting into one, and the panel of one: its settings, channels,
// members and who asks to join.

import { random } from './api.js';
import { el, portrait, say } from './dom.js';
import { channelsOf } from './group-channels.js';
import { membersOf, requestsOf } from './group-members.js';
import { ask, notify, openPanel } from './panel.js';
import { PeopleField } from './pick.js';

const policies = { closed: 'only those who are invited', request: 'whom an admin lets in', open: 'everybody who knows its number' };

const policyField = (chosen) => el('label', {}, 'Who may join', el('select', { name: 'join_policy' },
  ...Object.entries(policies).map(([value, text]) => el('option', { value, selected: value === chosen }, text))));

const check = (name, text, checked) => el('label', { class: 'check' }, el('input', { type: 'checkbox', name, checked }), text);

function portraitOf(group) {
  const e = portrait({ id: group.id, nickname: group.name, avatar: group.avatar });
  e.classList.add('square');
  return e;
}

export class GroupView {
  #parts; // {session, store, groups, presence, catchUp, go(id), person(profile)}

  constructor(parts) {
    this.#parts = parts;
    document.getElementById('groups').addEventListener('click', () => this.create());
  }

  create() {
    const { store, groups } = this.#parts;
    const id = random(16); // of this creation, however often it is tried
    openPanel('Groups', (panel) => {
      const members = new PeopleField(panel, store.people, { without: [store.me.id] });
      const submit = el('button', { class: 'primary' }, 'Create the group');
      const form = el('form', {
        class: 'stack', onsubmit: (event) => {
          event.preventDefault();
          panel.run(async () => {
            const { name, join_policy } = form.elements;
            const { group } = await groups.change('POST', '', {
              name: name.value.trim(), join_policy: join_policy.value, history_visible: form.elements.history_visible.checked, members: members.ids, client_group_id: id,
            });
            panel.close();
            await this.#enter(group);
          }, submit);
        },
      },
      el('h3', {}, 'New group'), el('label', {}, 'Name', el('input', { name: 'name', required: true, maxlength: '100', autocomplete: 'off' })),
      members.element, policyField('closed'), check('history_visible', 'Who joins sees what was said before', false), submit);
      panel.body.append(this.#mine(panel), form, this.#joinForm(panel));
      form.elements.name.focus();
    });
  }

  // mine are the groups one is in, those too whose channels are not in the list just now.
  #mine(panel) {
    const { session } = this.#parts;
    const list = el('ul', { class: 'people', 'aria-label': 'Your groups' });
    const section = el('section', { hidden: true }, el('h3', {}, 'Your groups'), list);
    const load = async (after = '') => {
      const page = await session.call('GET', `/v1/groups?limit=100${after}`);
      section.hidden = page.items.length === 0 && !after;
      for (const group of page.items) {
        list.append(el('li', {}, el('button', { type: 'button', class: 'plain pick', onclick: () => { panel.close(); this.#enter(group); } }, portraitOf(group), el('bdi', {}, group.name))));
      }
      if (page.has_more) {
        const more = el('li', {}, el('button', { type: 'button', class: 'link', onclick: () => { more.remove(); panel.run(() => load(`&after=${page.next}`)); } }, 'Show more'));
        list.append(more);
      }
    };
    panel.run(() => load());
    return section;
  }

  #joinForm(panel) {
    const { groups } = this.#parts;
    const number = el('input', { 'aria-label': 'Number of the group', placeholder: 'Number', inputmode: 'numeric', pattern: '[0-9]+', required: true, autocomplete: 'off' });
    const message = el('input', { 'aria-label': 'A word to its admins', placeholder: 'A word to its admins; optional', maxlength: '200', autocomplete: 'off' });
    const submit = el('button', {}, 'Join');
    const told = el('p', { class: 'quiet', role: 'status' });
    const form = el('form', {
      class: 'stack', id: 'join-group', onsubmit: (event) => {
        event.preventDefault();
        panel.run(async () => {
          const answer = await groups.change('POST', `/${number.value}/join`, message.value.trim() ? { message: message.value.trim() } : {});
          if (answer.pending) {
            say(told, `You have asked to join “${answer.group.name}”. An admin decides.`);
            form.reset();
            return;
          }
          panel.close();
          await this.#enter(answer.group);
        }, submit, { not_found: 'There is no group of that number that one can join.' });
      },
    }, el('h3', {}, 'Join a group'), el('div', { class: 'inline' }, number, submit), message, told);
    return form;
  }

  // enter opens a group's main channel.
  async #enter({ main_channel_id: id }) {
    if (await this.#parts.catchUp.know(id)) this.#parts.go(id);
    else notify('The group is there, and appears in your list in a moment.');
  }

  // open shows the group of channel c.
  open(c) {
    const { store, groups } = this.#parts;
    const id = c.channel.group_id;
    openPanel(c.channel.group_name, (panel) => {
      if (c.left) {
        panel.body.append(el('p', { class: 'quiet' }, 'You are no longer here. What was said while you were stays to be read; delete the conversation to be rid of it.'));
        return;
      }
      panel.dialog.classList.add('group');
      const head = el('section');
      const parts = { ...this.#parts, panel, id, c, of: () => groups.of(c), change: (method, path, body) => groups.change(method, `/${id}${path}`, body) };
      const settings = el('section');
      const end = el('div', { class: 'buttons' });
      panel.body.append(head, channelsOf(parts), requestsOf(parts), membersOf(parts), settings, end);
      let shown = '';
      panel.on(store, ['group'], () => {
        const group = groups.of(c);
        if (!group) return;
        panel.title(group.name);
        this.#head(head, group);
        const key = `${group.version} ${group.role}`;
        if (key === shown) return; // what is being typed stays
        shown = key;
        settings.replaceChildren(...(groups.manages(c) ? [this.#settings(parts, group)] : []));
        end.replaceChildren(...this.#ends(parts, group));
      });
      panel.run(() => groups.get(id));
    });
  }

  #head(head, group) {
    const copy = el('button', { type: 'button', class: 'link', onclick: () => navigator.clipboard?.writeText(group.id).then(() => notify('Copied.'), () => {}) }, 'Copy');
    head.replaceChildren(el('div', { class: 'about-head' }, portraitOf(group), el('div', { class: 'who' },
      el('strong', {}, `${group.members} ${group.members === 1 ? 'member' : 'members'}`),
      el('span', { class: 'quiet' }, 'Number ', el('span', { id: 'group-number' }, group.id), ' ', copy),
      el('span', { class: 'quiet' }, `May join: ${policies[group.join_policy]}`))));
  }

  #settings({ panel, change }, group) {
    const save = el('button', {}, 'Save');
    const form = el('form', {
      class: 'stack', onsubmit: (event) => {
        event.preventDefault();
        const { name, avatar: picture, join_policy, history_visible, muted_all } = form.elements;
        const now = {
          name: name.value.trim(), avatar: picture.value.trim(), join_policy: join_policy.value, history_visible: history_visible.checked, muted_all: muted_all.checked,
        };
        const was = { avatar: '', ...group };
        const patch = Object.fromEntries(Object.entries(now).filter(([key, value]) => value !== was[key]));
        if (Object.keys(patch).length) panel.run(() => change('PATCH', '', patch), save);
      },
    },
    el('label', {}, 'Name', el('input', { name: 'name', value: group.name, required: true, maxlength: '100', autocomplete: 'off' })),
    el('label', {}, 'Picture', el('input', { name: 'avatar', type: 'url', value: group.avatar ?? '', maxlength: '512', placeholder: 'https://…', autocomplete: 'off' })),
    policyField(group.join_policy), check('history_visible', 'Who joins sees what was said before', group.history_visible),
    check('muted_all', 'Only admins may write', group.muted_all), save);
    return el('details', {}, el('summary', {}, 'Settings of the group'), form);
  }

  #ends({ panel, c, change }, group) {
    const { groups } = this.#parts;
    const act = (text, title, question, method, path) => el('button', {
      type: 'button', class: 'danger', onclick: async (event) => {
        const button = event.currentTarget;
        if (!await ask(title, question, text)) return;
        if (await panel.run(async () => { await change(method, path); return true; }, button)) panel.close();
      },
    }, text);
    if (!group.role || c.left) return [];
    if (groups.of(c).role === 'owner') {
      return [act('Dissolve the group', 'Dissolve the group?', 'It ends for everybody, for good. What was said stays to be read. To leave it to others instead, make somebody else its owner first.', 'DELETE', '')];
    }
    return [act('Leave the group', 'Leave the group?', 'You see nothing that is said there from then on. What was said stays in your list.', 'DELETE', '/members/me')];
  }
}
