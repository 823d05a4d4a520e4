// What one may do with a message: the menu at it, and what its entries show.

import { body } from './content.js';
import { el, portrait } from './dom.js';
import { fullTime } from './format.js';
import { openMenu } from './menu.js';
import { ask, failing, notify, openPanel } from './panel.js';
import { choose } from './pick.js';
import { find } from './window.js';

const quick = ['👍', '❤️', '😂', '😮', '😢', '🙏', '🎉'];
const recallWithin = 2 * 60_000; // ms; the server's own word is final, in both
const editWithin = 15 * 60_000;

export class Actions {
  #parts; // {session, store, changes, outgoing, compose, groups, go}
  #c = null;

  constructor(parts) { this.#parts = parts; }

  show(c) { this.#c = c; }

  #message(button) { return find(this.#c, Number(button.closest('.message').dataset.seq)); }

  // open shows the menu of the message that button is in.
  open(button) {
    const { store, compose, changes, groups } = this.#parts;
    const c = this.#c;
    const m = this.#message(button);
    const mine = store.mine(m);
    const age = store.now() - m.stored_at;
    const writes = !c.left;
    const takesBack = writes && (mine ? age < recallWithin : groups.manages(c));
    const run = (work) => () => failing(work);
    const delete_ = { label: 'Delete for me', danger: true, run: () => this.#delete(m) };
    if (m.recalled_at) {
      openMenu(button, [delete_], 'Message');
      return;
    }
    openMenu(button, [
      writes && { row: quick.map((r) => this.#reaction(m, r)) },
      writes && { label: 'Reply', run: () => compose.reply(m) },
      { label: 'Forward…', run: () => this.#forward(m) },
      typeof m.content.text === 'string' && { label: 'Copy text', run: () => navigator.clipboard?.writeText(m.content.text).then(() => notify('Copied.'), () => notify('The browser does not allow copying.')) },
      mine && writes && m.type === 'text' && !m.forwarded_from && age < editWithin && { label: 'Edit', run: () => compose.edit(m) },
      m.edited_at && { label: 'Earlier versions', run: () => this.#edits(m) },
      m.reactions?.length && { label: 'Who reacted', run: () => this.#reactors(m) },
      mine && c.channel && { label: 'Who has read it', run: () => this.who(m) },
      takesBack && { label: 'Take back', danger: true, run: run(() => changes.recall(m)) },
      delete_,
    ], 'Message');
  }

  #reaction(m, reaction) {
    const mine = Boolean(m.reactions?.find((r) => r.reaction === reaction)?.mine);
    return { label: reaction, name: `React with ${reaction}`, checked: mine, run: () => failing(() => this.#parts.changes.react(m, reaction, !mine)) };
  }

  // toggle gives or takes this user's reaction from the count it is shown at.
  toggle(button, reaction) {
    if (this.#c.left) return;
    const m = this.#message(button);
    const mine = m.reactions?.find((r) => r.reaction === reaction)?.mine;
    failing(() => this.#parts.changes.react(m, reaction, !mine));
  }

  async #delete(m) {
    const others = this.#c.channel ? 'The others keep it.' : `${this.#parts.store.people.called(this.#c.peer)} keeps it.`;
    if (await ask('Delete for you?', `The message goes from all of your devices. ${others}`, 'Delete for me')) {
      failing(() => this.#parts.changes.delete(m));
    }
  }

  #forward(m) {
    const { store, outgoing, go } = this.#parts;
    choose('Forward to', store, (to) => {
      const sent = outgoing.send(to, {
        type: m.type, content: m.content, forward: { conversation_id: m.conversation_id, seq: m.seq },
        forwarded_from: m.forwarded_from ?? { nickname: m.sender.nickname || m.sender.handle },
      });
      if (sent) go(to.id);
      else notify('Too much is waiting to be sent. Try again once it is through.');
    });
  }

  #path(m, what) { return `/v1/conversations/${m.conversation_id}/messages/${m.seq}/${what}`; }

  #edits(m) {
    const { session, store } = this.#parts;
    openPanel('Earlier versions', (panel) => panel.run(async () => {
      const { items } = await session.call('GET', this.#path(m, 'edits'));
      panel.body.append(el('ol', { class: 'versions' }, ...items.toReversed().map((e, i) => el('li', {},
        el('span', { class: 'quiet' }, i === 0 ? `Now, since ${fullTime(e.at)}` : fullTime(e.at)),
        el('div', { dir: 'auto' }, body({ type: 'text', content: e.content }, store.people, store.me.id))))));
    }));
  }

  #reactors(m) {
    openPanel('Reactions', (panel) => {
      for (const { reaction, count } of m.reactions) {
        const list = el('ul', { class: 'people' });
        panel.body.append(el('section', {}, el('h3', {}, `${reaction} ${count}`), list));
        this.#page(panel, list, (after) => `${this.#path(m, 'reactions')}?reaction=${encodeURIComponent(reaction)}${after}`);
      }
    });
  }

  // who shows which members have a message of one's own, and which have read it; it
  // follows as they do.
  who(m) {
    openPanel('Who has it', (panel) => {
      const sections = [['read', 'Read'], ['delivered', 'Received'], ['undelivered', 'Not yet received']].map(([state, title]) => {
        const list = el('ul', { class: 'people', 'data-state': state });
        panel.body.append(el('section', {}, el('h3', {}, title), list));
        const wanted = state === 'delivered' ? (r) => r.read_seq < m.seq : undefined;
        return () => this.#page(panel, list, (after) => `${this.#path(m, 'receipts')}?state=${state}${after}`, wanted);
      });
      panel.on(this.#parts.store, ['counts'], () => { for (const fill of sections) fill(); });
    });
  }

  // page fills a list of people, and goes on where it is asked to.
  async #page(panel, list, path, wanted = () => true, after = '') {
    const { session, store } = this.#parts;
    const page = await panel.run(() => session.call('GET', path(after)));
    if (!page) return;
    if (!after) list.replaceChildren();
    for (const { user } of page.items.filter(wanted)) {
      list.append(el('li', {}, portrait(user), el('bdi', {}, user.id === store.me.id ? 'You' : store.people.called(user))));
    }
    if (page.has_more) {
      const more = el('li', {}, el('button', {
        type: 'button', class: 'link', onclick: () => { more.remove(); this.#page(panel, list, path, wanted, `&after=${page.next}`); },
      }, 'Show more'));
      list.append(more);
    } else if (list.childElementCount === 0) {
      list.append(el('li', { class: 'quiet' }, 'Nobody'));
    }
  }
}
