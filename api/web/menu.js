// A menu at a button: arrow keys, Home and End go through it, Escape and a click beside it
// close it, and focus returns to the button.

import { el } from './dom.js';

const gap = 6; // px between the button and the menu, and to the edges of the screen

// openMenu shows items: {label, run, danger, checked} each, or {row: [...]} for a row of
// small ones, each with a name of its own.
export function openMenu(anchor, items, label) {
  const menu = el('div', { class: 'menu', role: 'menu', popover: 'auto', 'aria-label': label });
  const close = () => menu.hidePopover();
  const button = ({ label: text, name, run, danger, checked }) => el('button', {
    type: 'button', role: checked === undefined ? 'menuitem' : 'menuitemcheckbox', 'aria-checked': checked === undefined ? null : String(checked),
    class: danger ? 'danger' : '', 'aria-label': name, tabindex: '-1',
    onclick: () => { close(); run(); },
  }, text);
  for (const item of items) {
    if (item) menu.append(item.row ? el('div', { class: 'row-of', role: 'none' }, ...item.row.map(button)) : button(item));
  }
  menu.addEventListener('keydown', (event) => move(event, [...menu.querySelectorAll('button')], close));
  menu.addEventListener('toggle', (event) => {
    if (event.newState !== 'closed') return;
    anchor.setAttribute('aria-expanded', 'false');
    if (menu.contains(document.activeElement) || document.activeElement === document.body) anchor.focus();
    menu.remove();
  });
  // Inside a dialog, else the dialog would cover it.
  (anchor.closest('dialog') ?? document.body).append(menu);
  menu.showPopover();
  anchor.setAttribute('aria-expanded', 'true');
  place(menu, anchor.getBoundingClientRect());
  menu.querySelector('button')?.focus({ preventScroll: true });
}

function move(event, buttons, close) {
  const at = buttons.indexOf(document.activeElement);
  const to = {
    ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1,
  }[event.key];
  if (event.key === 'Tab') close();
  if (to === undefined) return;
  event.preventDefault();
  buttons.at(to % buttons.length).focus();
}

// place puts the menu below the button, or above it where there is no room.
function place(menu, at) {
  const { offsetWidth: width, offsetHeight: height } = menu;
  const below = at.bottom + gap + height <= innerHeight;
  menu.style.top = `${Math.max(gap, below ? at.bottom + gap : at.top - gap - height)}px`;
  menu.style.left = `${Math.min(Math.max(gap, at.right - width), innerWidth - width - gap)}px`;
}
