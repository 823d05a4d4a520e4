// The page: finds out who this tab is, lets somebody in, and wires the parts of a chat.

import { call, WireError } from './api.js';
import { CatchUp } from './catchup.js';
import { ChatView } from './chat.js';
import { Compose } from './compose.js';
import { ConnectionView } from './connection.js';
import { avatar, el } from './dom.js';
import { nameOf, textOf } from './format.js';
import { ListView } from './list.js';
import { Outgoing } from './outgoing.js';
import { Receipts } from './receipts.js';
import { Session } from './session.js';
import { signIn } from './signin.js';
import { Socket } from './socket.js';
import { directID, Store } from './store.js';

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
  const store = new Store(session.user);
  const connection = new ConnectionView(() => socket.retry());
  let catchUp;
  const socket = new Socket(config.socket, session, {
    up(hello) {
      connection.up();
      store.me = hello.user;
      session.learn(hello.user);
      showMe(hello.user);
      outgoing.reconnected();
      receipts.reconnected();
      catchUp.start(hello);
    },
    down(retryAt) {
      catchUp.stop();
      connection.down(retryAt);
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
  catchUp = new CatchUp(session, socket, store, outgoing, receipts);
  const view = new ChatView(store, catchUp, receipts, outgoing);
  const list = new ListView(store, catchUp, (c) => go(c.id));
  const compose = new Compose(store, outgoing, session.device, () => view.toEnd());

  // The open conversation is the fragment, so that a reload and a phone's back button
  // do what they say.
  function go(id) {
    if (location.hash) history.replaceState({ deep: history.state?.deep }, '', `#${id}`);
    else history.pushState({ deep: true }, '', `#${id}`);
    route();
    compose.focus();
  }

  function leave() {
    if (history.state?.deep) {
      history.back();
    } else {
      history.replaceState(null, '', location.pathname);
      route();
    }
  }

  function route() {
    const c = store.get(location.hash.slice(1)) ?? null;
    const left = c ? '' : view.id;
    $('app').classList.toggle('chatting', c !== null);
    view.show(c);
    compose.show(c);
    list.choose(c);
    if (left) list.focus(left);
  }

  window.addEventListener('popstate', route);
  // The fragment may name what the list did not bring.
  store.on('synced', async () => {
    const id = location.hash.slice(1);
    if (view.id === id) return;
    if (!store.get(id)) await catchUp.know(id);
    route();
  });
  $('back').addEventListener('click', leave);
  $('open').addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && !event.isComposing) leave();
  });

  $('start').addEventListener('submit', async (event) => {
    event.preventDefault();
    const field = $('start-handle');
    const handle = field.value.trim().replace(/^@/u, '');
    if (!handle) return;
    $('start-error').textContent = '';
    try {
      const peer = await session.call('GET', `/v1/users?handle=${encodeURIComponent(handle)}`);
      field.value = '';
      const id = directID(store.me.id, peer.id);
      if (!store.get(id)) await catchUp.know(id);
      store.ensure(id, peer);
      go(id);
    } catch (err) {
      if (!(err instanceof WireError)) throw err;
      $('start-error').textContent = err.code === 'not_found' ? `Nobody is called ${handle}.` : err.message;
    }
  });
  $('start-handle').addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
      event.target.value = '';
      $('start-error').textContent = '';
    }
  });

  $('leave').addEventListener('click', async () => {
    const n = outgoing.length;
    if (n && !window.confirm(`${n === 1 ? 'A message has' : `${n} messages have`} not been sent yet. Log out and lose them?`)) return;
    socket.stop();
    outgoing.clear();
    await session.leave();
    location.replace(location.pathname);
  });
  $('take-over').addEventListener('click', () => location.reload());
  $('elsewhere').addEventListener('cancel', (event) => event.preventDefault());

  store.on('list', () => {
    const n = store.unreadTotal();
    document.title = n ? `(${n}) Curlew` : 'Curlew';
  });
  store.on('arrived', (m) => {
    $('announce').textContent = `${nameOf(m.sender)}: ${textOf(m).slice(0, 200)}`;
  });

  // What the machine says about its network or its waking is reason to try at once.
  window.addEventListener('online', () => socket.retry());
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState !== 'visible') return;
    socket.retry();
    catchUp.beat();
  });

  showMe(session.user);
  $('signin').hidden = true;
  $('app').hidden = false;
  connection.down(0);
  route();
  socket.run();
}

function showMe(me) {
  const picture = el('span');
  avatar(picture, me);
  $('me').replaceChildren(picture, el('div', { class: 'who' },
    el('strong', {}, el('bdi', {}, nameOf(me))),
    el('span', { class: 'quiet' }, el('bdi', {}, `@${me.handle}`))));
}

main();
