// One message of the open conversation, as an element.

import { body, quote } from './content.js';
import { el, reconcile, say, set, tick } from './dom.js';
import { clock, fullTime } from './format.js';
import { find } from './window.js';

export function createMessage(line, parts) {
  return el('li', { class: 'message' }, el('span', { class: 'hidden' }),
    el('div', { class: 'bubble', dir: 'auto' },
      el('div', { class: 'said' }),
      el('span', { class: 'meta' }, el('span', { class: 'edited', hidden: true }, 'edited'), el('time'),
        el('span', { class: 'ticks' }), el('button', { type: 'button', class: 'count link', hidden: true }))),
    el('button', {
      type: 'button', class: 'more plain', hidden: true, 'aria-haspopup': 'menu', 'aria-expanded': 'false', 'aria-label': 'What to do with this message',
      onclick: (event) => parts.actions.open(event.currentTarget),
    }, '⋯'),
    el('ul', { class: 'reactions', 'aria-label': 'Reactions', hidden: true }));
}

// updateMessage makes e show line, a message of conversation c. What has not changed is
// left alone, so that a selection or an opened part stays.
export function updateMessage(e, line, c, parts) {
  const { store, outgoing } = parts;
  const { m } = line;
  const name = line.mine ? 'You' : store.people.called(m.sender);
  const gone = Boolean(m.reply_to && find(c, m.reply_to.seq)?.recalled_at);
  const shown = [m, name, gone, line.mine, line.first, line.state, line.error, line.counts, line.last];
  if (e.shown?.every((value, i) => value === shown[i])) return;
  e.shown = shown;
  e.classList.toggle('mine', line.mine);
  e.classList.toggle('first', line.first);
  e.classList.toggle('failed', line.state === 'failed');
  set(e, 'data-seq', m.seq);
  say(e.firstElementChild, `${name} said:`);
  const named = Boolean(c.channel) && line.first && !line.mine;
  const version = `${m.change ?? 0} ${Boolean(m.recalled_at)} ${named ? name : ''} ${gone}`;
  if (e.dataset.version !== version) {
    e.dataset.version = version;
    e.querySelector('.said').replaceChildren(...[
      named ? el('bdi', { class: `sender sender-${Number(m.sender.id) % 8}` }, name) : null,
      m.forwarded_from ? el('span', { class: 'forwarded' }, 'Forwarded from ', el('bdi', {}, m.forwarded_from.nickname)) : null,
      m.reply_to ? quote(gone ? { ...m.reply_to, recalled: true } : m.reply_to, (p) => (p.id === store.me.id ? 'You' : store.people.called(p)), parts.jump) : null,
      body(m, store.people, store.me.id),
    ].filter(Boolean));
  }
  const time = e.querySelector('time');
  say(time, clock(line.at));
  set(time, 'title', fullTime(line.at));
  const edited = e.querySelector('.edited');
  edited.hidden = !m.edited_at;
  set(edited, 'title', m.edited_at ? fullTime(m.edited_at) : null);
  tick(e.querySelector('.ticks'), line.state);
  count(e.querySelector('.count'), line, c, parts);
  const more = e.querySelector('.more');
  more.hidden = !m.seq;
  set(more, 'tabindex', line.last ? '0' : '-1'); // arrow keys go through the others
  reactions(e.querySelector('.reactions'), m, parts);
  failure(e, line, outgoing);
}

// count says under a message of one's own in a channel how many have read it; its place
// is kept until that is known.
function count(button, { m, mine, counts: r }, c, { actions }) {
  button.hidden = !(c.channel && mine && m.seq && !m.recalled_at);
  button.disabled = !r;
  if (!r) return;
  say(button, `${r.read}/${r.recipients}`);
  set(button, 'aria-label', `Read by ${r.read} of ${r.recipients}, received by ${r.delivered}. Show who`);
  set(button, 'title', `Read by ${r.read} of ${r.recipients}, received by ${r.delivered}`);
  button.onclick = () => actions.who(m);
}

function reactions(list, m, { actions }) {
  const all = m.recalled_at ? [] : m.reactions ?? [];
  list.hidden = all.length === 0;
  reconcile(list, all, (r) => r.reaction,
    (r) => el('li', {}, el('button', { type: 'button', onclick: (event) => actions.toggle(event.currentTarget, r.reaction) }, el('span', {}, r.reaction), el('span', { class: 'n' }))),
    (li, r) => {
      const button = li.firstElementChild;
      set(button, 'aria-pressed', String(Boolean(r.mine)));
      set(button, 'aria-label', `${r.reaction}, ${r.count}${r.mine ? ', yours among them' : ''}`);
      say(button.lastElementChild, String(r.count));
    });
}

function failure(e, line, outgoing) {
  const shown = e.querySelector('.failure');
  if (line.state === 'failed' && !shown) {
    e.append(el('div', { class: 'failure' }, el('span', {}, `Not sent: ${line.error}`),
      el('button', { type: 'button', class: 'link', onclick: () => outgoing.again(line.item) }, 'Try again'),
      el('button', { type: 'button', class: 'link', onclick: () => outgoing.discard(line.item) }, 'Discard')));
  } else if (line.state !== 'failed') {
    shown?.remove();
  }
}
