// The channels of a group, in its panel: going to one, making, renaming and removing them,
// and who is in a private one.

import { personLine } from './contacts.js';
import { el, icon } from './dom.js';
import { openMenu } from './menu.js';
import { ask, openPanel } from './panel.js';
import { PeopleField } from './pick.js';

const nameOf = (channel) => (channel.main ? 'General' : channel.name);

// channelsOf is the section of channels; it follows the group.
export function channelsOf(parts) {
  const { panel, store, groups, c, of, go, catchUp } = parts;
  const list = el('ul', { class: 'people', 'aria-label': 'Channels' });
  const create = el('button', { type: 'button', hidden: true, onclick: () => openCreate(parts) }, 'New channel');

  function line(channel) {
    const id = channel.conversation_id;
    const deeds = channel.main || c.left ? [] : deedsOf(parts, channel);
    return el('li', { 'data-channel': id },
      el('button', {
        type: 'button', class: 'plain pick', onclick: () => panel.run(async () => {
          if (!(await catchUp.know(id))?.channel) {
            panel.say('You are not in this channel. Add yourself to its members to read it.');
            return;
          }
          panel.close();
          go(id);
        }),
      }, icon(channel.private ? 'lock' : 'hash', channel.private ? 'private' : 'for all'), el('bdi', {}, nameOf(channel)), channel.private ? el('span', { class: 'quiet' }, 'private') : null),
      deeds.length ? el('button', {
        type: 'button', class: 'plain round', 'aria-haspopup': 'menu', 'aria-expanded': 'false', 'aria-label': `What to do with ${nameOf(channel)}`,
        onclick: (event) => openMenu(event.currentTarget, deeds, nameOf(channel)),
      }, '⋯') : null);
  }

  panel.on(store, ['group'], () => {
    const group = of();
    create.hidden = !group || !groups.manages(c) || c.left;
    list.replaceChildren(...(group?.channels ?? []).map(line));
  });
  return el('section', {}, el('div', { class: 'title-line' }, el('h3', {}, 'Channels'), create), list);
}

function deedsOf(parts, channel) {
  const { panel, store, groups, c, change } = parts;
  const path = `/channels/${channel.conversation_id}`;
  const sure = async (title, text, action, end) => {
    if (await ask(title, text, action)) panel.run(() => change('DELETE', path + end));
  };
  const inIt = channel.private && store.get(channel.conversation_id)?.left === false;
  return [
    ...(groups.manages(c) ? [
      channel.private && { label: 'Members', run: () => openMembers(parts, channel) },
      { label: 'Rename', run: () => openRename(parts, channel) },
    ] : []),
    inIt && { label: 'Leave this channel', danger: true, run: () => sure('Leave the channel?', 'You see nothing that is said there from then on.', 'Leave', `/members/${store.me.id}`) },
    groups.manages(c) && { label: 'Remove', danger: true, run: () => sure('Remove the channel?', 'Nobody can write in it from then on. What was said stays to be read.', 'Remove', '') },
  ].filter(Boolean);
}

const nameField = (value = '') => el('label', {}, 'Name', el('input', { name: 'name', value, required: true, maxlength: '100', autocomplete: 'off' }));

function openCreate({ store, groups, id: group, change, go, catchUp, panel: outer }) {
  openPanel('New channel', (panel) => {
    const place = el('div', { hidden: true });
    let members = null;
    const secret = el('input', { type: 'checkbox', name: 'private', onchange: () => panel.run(async () => {
      place.hidden = !secret.checked;
      if (members) return;
      members = new PeopleField(panel, store.people, { offered: await groups.everyone(group), without: [store.me.id], others: false });
      place.replaceChildren(members.element);
    }) });
    const submit = el('button', { class: 'primary' }, 'Create the channel');
    const form = el('form', {
      class: 'stack', onsubmit: (event) => {
        event.preventDefault();
        panel.run(async () => {
          const answer = await change('POST', '/channels', {
            name: form.elements.name.value.trim(), ...(secret.checked && { private: true, members: members?.ids ?? [] }),
          });
          panel.close();
          outer.close();
          const id = answer.channel.conversation_id;
          if (await catchUp.know(id)) go(id);
        }, submit);
      },
    }, nameField(), el('label', { class: 'check' }, secret, 'Private: for some of the members only'), place, submit);
    panel.body.append(form);
    form.elements.name.focus();
  });
}

function openRename({ change }, channel) {
  openPanel('Rename the channel', (panel) => {
    const submit = el('button', { class: 'primary' }, 'Rename');
    const form = el('form', {
      class: 'stack', onsubmit: (event) => {
        event.preventDefault();
        panel.run(async () => {
          await change('PATCH', `/channels/${channel.conversation_id}`, { name: form.elements.name.value.trim() });
          panel.close();
        }, submit);
      },
    }, nameField(channel.name), submit);
    panel.body.append(form);
    form.elements.name.focus();
  });
}

function openMembers({ store, groups, id, change }, channel) {
  const path = `/channels/${channel.conversation_id}/members`;
  openPanel(`Members of ${channel.name}`, (panel) => {
    const list = el('ul', { class: 'people' });
    const others = el('div');
    let field;
    const add = el('button', { type: 'button', class: 'primary', onclick: () => panel.run(async () => {
      if (field.ids.length) await change('POST', path, { user_ids: field.ids });
      await load();
    }, add) }, 'Add');
    async function load() {
      const [inIt, all] = await Promise.all([groups.everyone(id, channel.conversation_id), groups.everyone(id)]);
      list.replaceChildren(...inIt.map((user) => {
        const remove = el('button', { type: 'button', onclick: () => panel.run(async () => {
          await change('DELETE', `${path}/${user.id}`);
          await load();
        }, remove) }, 'Remove');
        return personLine(user, user.id === store.me.id ? 'You' : store.people.called(user), `@${user.handle}`, remove);
      }));
      field = new PeopleField(panel, store.people, { offered: all, without: inIt.map((user) => user.id), others: false });
      others.replaceChildren(field.element);
    }
    panel.body.append(list, others, el('div', { class: 'buttons' }, add));
    panel.run(load);
  });
}
