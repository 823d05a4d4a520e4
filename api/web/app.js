// The page: finds out who this tab is, lets somebody in, and wires the parts of a chat.

import { Actions } from './actions.js';
import { call, WireError } from './api.js';
import { CatchUp } from './catchup.js';
import { Changes } from './changes.js';
import { ChatView } from './chat.js';
import { Compose } from './compose.js';
import { ConnectionView } from './connection.js';
import { ContactsView } from './contacts.js';
import { Counts } from './counts.js';
import { Drafts } from './drafts.js';
import { textOf } from './format.js';
import { Groups } from './groups.js';
import { GroupView } from './group.js';
import { Header } from './header.js';
import { ListView } from './list.js';
import { MeView } from './me.js';
import { Mention } from './mention.js';
import { Outgoing } from './outgoing.js';
import { explain, notify } from './panel.js';
import { People } from './people.js';
import { Presence, Typing } from './presence.js';
import { Receipts } from './receipts.js';
import { Router } from './route.js';
import { Session } from './session.js';
import { signIn } from './signin.js';
import { Socket } from './socket.js';
import { directID, Store, told } from './store.js';

const $ = (id) => document.getElementById(id);

// configuration waits for the server: a page may be open before the engine is.
async function configuration() {
  for (;;) {
    try {
      return await call('GET', '/config.json');
    } catch (err) {
      if (!(err instanceof WireError)) throw err;
      await new Promise((resolve) => { setTimeout(resolve, 1_000 + err.after * Math.random()); });
    }
  }
}

async function main() {
  const config = await configuration();
  // The socket takes pages of its own host only, and "localhost" is another name.
  if (location.hostname === 'localhost' && new URL(config.socket).hostname === '127.0.0.1') {
    location.hostname = '127.0.0.1';
    return;
  }
  chat(config, Session.ofTab() ?? await signIn(config));
}

// chat runs for as long as the tab lives; a change of user is a reload.
function chat(config, session) {
  const people = new People();
  const store = new Store(session.user, people);
  people.attach(session, store);
  people.learn(session.user);
  const connection = new ConnectionView(() => socket.retry());
  const socket = new Socket(config.socket, session, {
    up(hello) {
      connection.up();
      store.me = hello.user;
      session.learn(hello.user);
      me.show();
      outgoing.reconnected();
      receipts.reconnected();
      presence.anew();
      catchUp.start(hello);
      store.changed('connection');
    },
    down(retryAt) {
      catchUp.stop();
      connection.down(retryAt);
      store.changed('connection');
    },
    push(kind, data) { catchUp.push(kind, data); },
    over(why) {
      catchUp.stop();
      if (why === 'replaced') {
        $('elsewhere').showModal();
      } else {
        session.drop('This login has ended. Log in again.');
        location.reload();
      }
    },
  });

  const outgoing = new Outgoing(store, socket, session.device);
  const receipts = new Receipts(socket, store);
  const presence = new Presence(socket, store);
  const typing = new Typing(socket, store);
  const changes = new Changes(socket, store);
  const groups = new Groups(session, store);
  const counts = new Counts(session, store);
  const catchUp = new CatchUp(session, socket, store, outgoing, receipts, { presence, typing, changes });

  const drafts = new Drafts(socket, store, session.device);
  const mention = new Mention(store, groups);
  const compose = new Compose({ store, outgoing, drafts, typing, changes, groups, mention, sent: () => view.toEnd() });
  const chatWith = (profile) => talk(profile);
  const router = new Router(store, catchUp, (c, left) => {
    view.show(c);
    header.show(c);
    compose.show(c);
    actions.show(c);
    counts.show(c);
    list.choose(c);
    if (c?.channel) groups.load(c.channel.group_id);
    if (c) header.seen(c);
    if (left) list.focus(left);
  });
  const go = (id) => {
    router.go(id);
    compose.focus();
  };
  const actions = new Actions({ session, store, changes, outgoing, compose, groups, go });
  const view = new ChatView({ store, catchUp, receipts, counts, outgoing, actions });
  const contacts = new ContactsView({ store, presence, chatWith });
  const group = new GroupView({ session, store, groups, presence, catchUp, go, person: (profile) => contacts.about(profile) });
  const header = new Header({
    socket, store, presence, typing, groups, leave: () => router.leave(),
    about: (c) => (c.channel ? group.open(c) : contacts.about(c.peer)),
  });
  const list = new ListView(store, catchUp, { presence, typing, open: (c) => go(c.id), menu: (anchor, c) => header.menu(anchor, c) });
  const me = new MeView({ session, store, out });

  // talk opens the conversation with somebody, new or not.
  async function talk(profile) {
    const id = directID(store.me.id, profile.id);
    await catchUp.know(id);
    store.ensure(id, profile);
    go(id);
  }

  $('start').addEventListener('submit', async (event) => {
    event.preventDefault();
    const field = $('start-handle');
    const handle = field.value.trim().replace(/^@/u, '');
    if (!handle) return;
    $('start-error').textContent = '';
    try {
      const peer = await people.find(handle);
      field.value = '';
      await talk(peer);
    } catch (err) {
      if (!(err instanceof WireError)) throw err;
      $('start-error').textContent = err.code === 'not_found' ? `Nobody is called ${handle}. It must be the whole handle.` : explain(err);
    }
  });
  $('start-handle').addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
      event.target.value = '';
      $('start-error').textContent = '';
    }
  });

  async function out() {
    const n = outgoing.length;
    if (n && !window.confirm(`${n === 1 ? 'A message has' : `${n} messages have`} not been sent yet. Log out and lose them?`)) return false;
    socket.stop();
    outgoing.clear();
    await session.leave();
    location.replace(location.pathname);
    return true;
  }
  $('take-over').addEventListener('click', () => location.reload());
  $('elsewhere').addEventListener('cancel', (event) => event.preventDefault());

  const met = new Set(); // conversations whose people may be seen since something was said
  store.on('list', (changed) => {
    const n = store.unreadTotal();
    const title = n ? `(${n}) Curlew` : 'Curlew';
    if (document.title !== title) document.title = title;
    for (const c of changed) if (c?.peer) presence.want([c.peer.id], Boolean(c.last) && !met.has(c.id) && Boolean(met.add(c.id)));
  });
  store.on('arrived', (m) => {
    const c = store.get(m.conversation_id);
    if (c.channel && m.type === 'notice' && router.open === c) groups.load(c.channel.group_id);
    if (!told(m) && !store.muted(c)) $('announce').textContent = `${people.called(m.sender)}: ${textOf(m).slice(0, 200)}`;
  });
  store.on('notice', notify);

  // What the machine says about its network or its waking is reason to try at once.
  window.addEventListener('online', () => socket.retry());
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState !== 'visible') return;
    socket.retry();
    catchUp.beat();
  });

  me.show();
  $('signin').hidden = true;
  $('app').hidden = false;
  connection.down(0);
  router.route();
  socket.run();
}

main();
