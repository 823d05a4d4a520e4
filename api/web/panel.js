// Panels: dialogs over the page, whole screens on a phone. One that is open shows what is
// known now, and says in words what could not be done.

import { WireError } from './api.js';
import { el } from './dom.js';

// openPanel shows a dialog; build fills its body, and gets the panel to refresh, close or
// run work in. It returns the panel.
export function openPanel(title, build, { onclose } = {}) {
  const back = document.activeElement;
  const heading = el('h2', { id: `panel-${Math.random().toString(36).slice(2)}` }, title);
  const body = el('div', { class: 'panel-body' });
  const error = el('p', { class: 'error', role: 'alert' });
  const dialog = el('dialog', { class: 'panel', 'aria-labelledby': heading.id },
    el('header', {}, heading, el('button', { type: 'button', class: 'plain close', 'aria-label': 'Close', onclick: () => dialog.close() }, '✕')),
    error, body);
  const ends = [];
  const panel = {
    dialog, body,
    close: () => dialog.close(),
    say: (text) => { error.textContent = text; },
    title: (text) => { heading.textContent = text; },
    // on has render run at once and whenever store tells of one of names, for as long as
    // the panel is open; focus stays on what is the same button after it.
    on(store, names, render) {
      const work = () => keepingFocus(body, render);
      for (const name of names) ends.push(store.on(name, work));
      work();
    },
    // run does what was asked for, once at a time, and says what went wrong; own are words
    // for some codes.
    async run(work, button, own = {}) {
      error.textContent = '';
      if (button) button.disabled = true;
      try {
        return await work();
      } catch (err) {
        if (!(err instanceof WireError)) throw err;
        error.textContent = own[err.code] ?? explain(err);
        error.scrollIntoView({ block: 'nearest' });
        return undefined;
      } finally {
        if (button) button.disabled = false;
      }
    },
  };
  dialog.addEventListener('close', () => {
    for (const end of ends) end();
    onclose?.();
    dialog.remove();
    if (back?.isConnected) back.focus();
  });
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  build(panel);
  return panel;
}

// keepingFocus runs render, which may replace a button by one that says the same.
function keepingFocus(body, render) {
  const nameOf = (e) => `${e.closest('[data-user]')?.dataset.user ?? ''} ${e.getAttribute('aria-label') ?? e.textContent}`;
  const focused = document.activeElement;
  const name = body.contains(focused) && nameOf(focused);
  render();
  if (name && !focused.isConnected) [...body.querySelectorAll('button, input, select')].find((e) => nameOf(e) === name)?.focus();
}

// ask puts a question with one thing to do; it resolves with whether to do it.
export function ask(title, text, action, danger = true) {
  return new Promise((resolve) => {
    let yes = false;
    openPanel(title, (panel) => {
      panel.dialog.classList.add('small');
      panel.body.append(el('p', {}, text), el('div', { class: 'buttons' },
        el('button', { type: 'button', onclick: panel.close }, 'Cancel'),
        el('button', { type: 'button', class: danger ? 'danger' : 'primary', onclick: () => { yes = true; panel.close(); } }, action)));
    }, { onclose: () => resolve(yes) });
  });
}

const words = {
  offline: 'The server does not answer. Try again in a moment.',
  disconnected: 'There is no connection just now. Try again once it is back.',
  rate_limited: 'That was too often. Try again in a minute.',
  too_late: 'The time for that is over.',
  recalled: 'The message has been taken back.',
  edit_conflict: 'The message was edited elsewhere meanwhile. Look at what it says now, and edit again.',
  membership_pending: 'A change of this membership is still under way. Try again in a moment.',
  not_found: 'There is no such thing, or not for you.',
  forbidden: 'You may not do that here.',
  blocked: 'They have blocked you.',
  muted: 'You are muted in this group.',
};

// explain says what went wrong and what to do, for people.
export function explain(err) {
  if (words[err.code]) return words[err.code];
  const text = err.message.replace(/^[a-z_.]+: /u, '');
  const sentence = `${text[0].toUpperCase()}${text.slice(1)}`.replace(/\.?$/u, '.');
  return err.retryable ? `${sentence} Try again in a moment.` : sentence;
}

// notify shows for a while, below everything, what happened elsewhere on the page.
export function notify(text) {
  const box = document.getElementById('notify');
  const line = el('p', {}, text);
  box.replaceChildren(line);
  box.showPopover();
  setTimeout(() => {
    if (line.isConnected) box.hidePopover();
  }, 8_000);
}

// failing runs what a button on the page does, and notifies of what went wrong.
export async function failing(work) {
  try {
    return await work();
  } catch (err) {
    if (!(err instanceof WireError)) throw err;
    notify(explain(err));
    return undefined;
  }
}
