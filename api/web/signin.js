// The way in: go on as somebody this browser remembers, take a demo account, log in, or
// register.

import { WireError } from './api.js';
import { el, portrait } from './dom.js';
import { nameOf } from './format.js';
import { farewell, remembered, Session } from './session.js';

const words = {
  login: { submit: 'Log in', question: 'New here?', other: 'Create an account' },
  register: { submit: 'Create account', question: 'Have an account?', other: 'Log in' },
};

// signIn shows the way in and resolves with the session of who came in.
export async function signIn({ demo }) {
  const $ = (id) => document.getElementById(id);
  const logins = await remembered();
  return new Promise((resolve) => {
    const form = $('credentials');
    let mode = 'login';

    function show() {
      form.querySelector('[type=submit]').textContent = words[mode].submit;
      form.querySelector('[type=submit]').classList.toggle('primary', !demo);
      form.elements.password.autocomplete = mode === 'login' ? 'current-password' : 'new-password';
      $('nickname').hidden = mode === 'login';
      $('other-question').textContent = words[mode].question;
      $('other').textContent = words[mode].other;
      $('signin-error').textContent = '';
    }

    async function enter(path, credentials) {
      const buttons = document.querySelectorAll('#signin button');
      for (const b of buttons) b.disabled = true;
      $('signin-error').textContent = '';
      try {
        resolve(await Session.enter(path, credentials));
      } catch (err) {
        if (!(err instanceof WireError)) throw err;
        $('signin-error').textContent = explain(err, path);
      } finally {
        for (const b of buttons) b.disabled = false;
      }
    }

    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const given = Object.fromEntries(new FormData(form));
      given.handle = given.handle.trim().replace(/^@/u, '');
      if (mode === 'login' || !given.nickname.trim()) delete given.nickname;
      enter(mode, given);
    });
    $('other').addEventListener('click', () => {
      mode = mode === 'login' ? 'register' : 'login';
      show();
      form.elements.handle.focus();
    });
    $('demo').addEventListener('click', () => enter('demo'));

    $('demo').hidden = $('or').hidden = !demo;
    $('remembered').hidden = logins.length === 0;
    $('remembered').querySelector('ul').replaceChildren(...logins.map((login) => {
      return el('li', {}, el('button', { type: 'button', onclick: () => resolve(new Session(login)) }, portrait(login.user),
        el('span', { class: 'who' },
          el('strong', {}, el('bdi', {}, nameOf(login.user))),
          el('span', { class: 'quiet' }, el('bdi', {}, `@${login.user.handle}`),
            login.open ? ' · open in another tab' : ''))));
    }));
    show();
    $('signin-error').textContent = farewell();
    $('signin').hidden = false;
  });
}

function explain(err, path) {
  if (err.code === 'unauthenticated') return 'This handle and password do not belong together.';
  if (err.code === 'conflict' && path === 'register') return 'This handle is taken.';
  if (err.code === 'rate_limited') return 'Too many attempts. Try again in a minute.';
  return err.message;
}
