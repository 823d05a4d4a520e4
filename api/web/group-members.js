// Who is in a group, in its panel: roles, muting, removing, inviting, and who asks to
// join.

import { personLine } from './contacts.js';
import { el } from './dom.js';
import { forever, fullTime, nameOf } from './format.js';
import { openMenu } from './menu.js';
import { ask, openPanel } from './panel.js';
import { PeopleField } from './pick.js';

// membersOf is the section of members; it follows the group.
export function membersOf({ panel, store, groups, presence, id, c, of, change, person }) {
  const list = el('ul', { class: 'people', 'aria-label': 'Members' });
  const invite = el('button', { type: 'button', hidden: true, onclick: () => openInvite() }, 'Invite');
  const more = el('button', { type: 'button', class: 'link', hidden: true, onclick: () => panel.run(() => load(next), more) }, 'Show more');
  let members = new Map(); // user ID → member
  let next = '';
  let asked = '';

  async function load(after = '') {
    const page = await groups.members(id, after);
    if (!after) members = new Map();
    for (const m of page.items) {
      store.people.learn(m.user);
      members.set(m.user.id, m);
    }
    next = page.has_more ? page.next : '';
    presence.want(page.items.map((m) => m.user.id).filter((user) => user !== store.me.id));
    show();
  }

  function show() {
    const ranks = ['owner', 'admin', 'member'];
    const sorted = [...members.values()].sort((a, b) => ranks.indexOf(a.role) - ranks.indexOf(b.role) || called(a).localeCompare(called(b)));
    list.replaceChildren(...sorted.map(line));
    more.hidden = !next;
  }

  const called = ({ user }) => (user.id === store.me.id ? 'You' : store.people.called(user));

  function line(m) {
    const online = presence.of(m.user.id)?.online;
    const muted = m.muted_until > store.now();
    const facts = [online ? 'online' : '', muted ? (m.muted_until === forever ? 'muted' : `muted until ${fullTime(m.muted_until)}`) : '', `@${m.user.handle}`];
    const deeds = deedsOf(m, muted);
    return personLine(m.user, called(m), facts.filter(Boolean).join(' · '),
      m.role === 'member' ? null : el('span', { class: 'role' }, m.role),
      deeds.length ? el('button', {
        type: 'button', class: 'plain round', 'aria-haspopup': 'menu', 'aria-expanded': 'false', 'aria-label': `What to do with ${called(m)}`,
        onclick: (event) => openMenu(event.currentTarget, deeds, called(m)),
      }, '⋯') : null);
  }

  // deedsOf is what this user may do with a member: an owner with everybody, an admin
  // with members.
  function deedsOf(m, muted) {
    const { role } = of() ?? {};
    if (m.user.id === store.me.id) return [];
    const over = role === 'owner' || (role === 'admin' && m.role === 'member');
    const path = `/members/${m.user.id}`;
    const act = (label, method, more_, body, danger) => ({ label, danger, run: () => panel.run(() => change(method, path + more_, body)) });
    return [
      { label: `About ${called(m)}`, run: () => person(m.user) },
      role === 'owner' && (m.role === 'admin' ? act('Make a member', 'PUT', '/role', { role: 'member' }) : act('Make an admin', 'PUT', '/role', { role: 'admin' })),
      over && (muted ? act('Let write again', 'PUT', '/mute', { until: 0 }) : act('Mute for an hour', 'PUT', '/mute', { until: store.now() + 3_600_000 })),
      over && !muted && act('Mute', 'PUT', '/mute', { until: forever }),
      role === 'owner' && { label: 'Make the owner', run: () => sure('Make them the owner?', `The group is ${called(m)}’s then, and you are an admin.`, 'Make the owner', () => change('POST', '/transfer', { user_id: m.user.id })) },
      over && { label: 'Remove from the group', danger: true, run: () => sure('Remove them?', `${called(m)} sees nothing that is said here from then on.`, 'Remove', () => change('DELETE', path)) },
    ].filter(Boolean);
  }

  async function sure(title, text, action, work) {
    if (await ask(title, text, action)) panel.run(work);
  }

  function openInvite() {
    openPanel('Invite', (inner) => {
      const field = new PeopleField(inner, store.people, { without: [...members.keys()] });
      const submit = el('button', { type: 'button', class: 'primary', onclick: () => inner.run(async () => {
        if (field.ids.length) await change('POST', '/members', { user_ids: field.ids });
        inner.close();
      }, submit) }, 'Invite');
      inner.body.append(field.element, el('div', { class: 'buttons' }, submit));
    });
  }

  panel.on(store, ['group', 'presence', 'people'], () => {
    const group = of();
    if (!group?.role || c.left) {
      list.replaceChildren();
      invite.hidden = true;
      return;
    }
    invite.hidden = !groups.manages(c);
    if (asked !== `${group.version} ${group.role}`) {
      asked = `${group.version} ${group.role}`;
      panel.run(() => load());
    } else {
      show();
    }
  });
  return el('section', {}, el('div', { class: 'title-line' }, el('h3', {}, 'Members'), invite), list, more);
}

// requestsOf is the section of who asks to join, for admins.
export function requestsOf({ panel, store, groups, id, c, of, change }) {
  const list = el('ul', { class: 'people', 'aria-label': 'Requests to join' });
  const section = el('section', { hidden: true }, el('h3', {}, 'Ask to join'), list);
  let asked = 0;

  async function load() {
    const { items } = await groups.requests(id);
    section.hidden = items.length === 0;
    list.replaceChildren(...items.map(({ user, message }) => {
      const answer = (how) => (event) => panel.run(async () => {
        await change('POST', `/requests/${user.id}/${how}`);
        await load();
      }, event.currentTarget);
      return personLine(user, nameOf(user), message || `@${user.handle}`,
        el('button', { type: 'button', class: 'primary', onclick: answer('accept') }, 'Let in'), el('button', { type: 'button', onclick: answer('refuse') }, 'Refuse'));
    }));
  }

  panel.on(store, ['group'], () => {
    const group = of();
    if (!group || !groups.manages(c) || c.left || asked === group.version) return;
    asked = group.version;
    panel.run(load);
  });
  return section;
}
