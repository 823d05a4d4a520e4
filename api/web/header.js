// The head of the open conversation: who or what it is, whether they are there or type,
// and what one may set for it.

import { avatar, say, set } from './dom.js';
import { forever, seenText } from './format.js';
import { openMenu } from './menu.js';
import { ask, failing, notify } from './panel.js';
import { pictureOf, titleOf } from './pick.js';

// typingText says who types in c; '' for nobody.
export function typingText(c, store, typing) {
  const who = typing.who(c);
  if (who.length === 0) return '';
  if (!c.channel) return 'types…';
  const names = who.slice(0, 2).map((id) => store.people.called(store.people.get(id) ?? { nickname: 'Somebody' }));
  if (who.length > 2) return `${names.join(', ')} and others type…`;
  return names.length > 1 ? `${names.join(' and ')} type…` : `${names[0]} types…`;
}

export class Header {
  #parts; // {socket, store, presence, typing, groups, about(c), leave()}
  #c = null;
  #line = document.getElementById('peer-handle');

  constructor(parts) {
    this.#parts = parts;
    const { store } = parts;
    const mine = (changed) => { if (changed.has(this.#c)) this.#render(); };
    store.on('conversation', mine);
    store.on('typing', mine);
    for (const name of ['presence', 'group', 'people', 'connection']) store.on(name, () => this.#render());
    document.getElementById('peer').addEventListener('click', () => parts.about(this.#c));
    document.getElementById('conversation-menu').addEventListener('click', (event) => this.menu(event.currentTarget, this.#c));
    setInterval(() => this.#render(), 30_000); // "5 min ago" grows
  }

  show(c) {
    this.#c = c;
    if (!c) return;
    if (c.peer) this.#parts.presence.want([c.peer.id], !c.last);
    this.#render();
  }

  #render() {
    const c = this.#c;
    if (!c) return;
    const { store, presence, typing } = this.#parts;
    const there = c.peer && presence.of(c.peer.id);
    const picture = document.getElementById('peer-avatar');
    avatar(picture, pictureOf(c), Boolean(there?.online));
    picture.classList.toggle('square', Boolean(c.channel));
    say(document.getElementById('peer-name'), titleOf(c, store.people));
    const types = typingText(c, store, typing);
    say(this.#line, types || this.#about(c, there));
    this.#line.classList.toggle('typing', types !== '');
    set(document.getElementById('peer'), 'aria-label', `${titleOf(c, store.people)}: more about ${c.channel ? 'this group' : 'them'}`);
  }

  #about(c, there) {
    if (c.channel) {
      const group = this.#parts.groups.of(c);
      if (c.left) return 'You are no longer here';
      return [c.channel.private ? 'Private channel' : '', group ? `${group.members} ${group.members === 1 ? 'member' : 'members'}` : ''].filter(Boolean).join(' · ');
    }
    return [seenText(there, this.#parts.store.now()), c.peer?.handle ? `@${c.peer.handle}` : ''].filter(Boolean).join(' · ');
  }

  // menu shows what one may set for a conversation.
  menu(anchor, c) {
    const { store, leave } = this.#parts;
    const [pinned, muted, marked] = [store.pinned(c), store.muted(c), store.marked(c) || c.unread > 0];
    const out = () => { if (c === this.#c) leave(); };
    openMenu(anchor, c.lastSeq === 0 ? [{ label: 'More about them', run: () => this.#parts.about(c) }] : [
      { label: c.channel ? 'About this group' : 'About them', run: () => this.#parts.about(c) },
      { label: pinned ? 'Unpin' : 'Pin to the top', run: () => this.#set(c, { pinned: !pinned }) },
      ...(muted ? [{ label: 'Unmute', run: () => this.#set(c, { muted_until: 0 }) }] : [
        { label: 'Mute for an hour', run: () => this.#set(c, { muted_until: store.now() + 3_600_000 }) },
        { label: 'Mute', run: () => this.#set(c, { muted_until: forever }) },
      ]),
      marked ? null : { label: 'Mark as unread', run: () => { out(); this.#set(c, { marked_unread: true }); } },
      { label: 'Hide from the list', run: () => { out(); this.#set(c, { hidden_seq: c.lastSeq }); } },
      { label: 'Delete the conversation', danger: true, run: () => this.#delete(c, out) },
    ], 'Conversation');
  }

  // seen ends the mark "unread" of a conversation that was opened.
  seen(c) { if (this.#parts.store.marked(c)) this.#set(c, { marked_unread: false }); }

  #set(c, change) {
    const { socket, store } = this.#parts;
    return failing(async () => store.settings(await socket.ask('settings', { conversation_id: c.id, ...change })));
  }

  async #delete(c, out) {
    const { socket, store } = this.#parts;
    const others = c.channel ? 'The others keep it.' : `${titleOf(c, store.people)} keeps it.`;
    if (!await ask('Delete the conversation?', `All that was said so far goes from all of your devices, for good. ${others}`, 'Delete')) return;
    await failing(async () => {
      store.settings(await socket.ask('delete_conversation', { conversation_id: c.id, up_to_seq: c.lastSeq }));
      out();
      notify('The conversation is deleted for you.');
    });
  }
}
