// Building the document. Text enters it as text nodes only, never as markup.

// el makes an element. Attributes that start with "on" are listeners; true sets an
// empty attribute, and false, null and undefined leave it out.
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) e.addEventListener(name.slice(2), value);
    else set(e, name, value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

// set writes an attribute only where it changes, so that an unchanged row costs nothing.
export function set(e, name, value) {
  if (value === false || value === null || value === undefined) {
    if (e.hasAttribute(name)) e.removeAttribute(name);
    return;
  }
  const text = value === true ? '' : String(value);
  if (e.getAttribute(name) !== text) e.setAttribute(name, text);
}

// say sets an element's text where it changes.
export function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// perFrame has work done once for all calls until the screen is drawn next; where the
// page is not on a screen, soon.
export function perFrame(work) {
  let due = false;
  const run = () => {
    if (due) work();
    due = false;
  };
  document.addEventListener('visibilitychange', run); // no frame comes to what was hidden
  return () => {
    if (due) return;
    due = true;
    if (document.visibilityState === 'visible') requestAnimationFrame(run);
    else setTimeout(run, 200);
  };
}

// reconcile makes parent's children those of items, in their order, and keeps the
// element of a key that stays: focus, selection and scroll position survive.
export function reconcile(parent, items, keyOf, create, update) {
  const old = new Map();
  for (const e of parent.children) old.set(e.dataset.key, e);
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let e = old.get(key);
    if (e) {
      old.delete(key);
    } else {
      e = create(item);
      e.dataset.key = key;
    }
    update(e, item);
    if (e === at) at = at.nextElementSibling;
    else parent.insertBefore(e, at);
  }
  for (const e of old.values()) e.remove();
}

const paths = {
  clock: ['M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11', 'M8 5v3.2l2.2 1.3'],
  check: ['M2.5 8.6l3.4 3.4l7.6-8'],
  checks: ['M1 8.6l3.4 3.4l7.6-8', 'M8.2 11.1l.9.9l7.6-8'],
  alert: ['M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 0 0 0-11', 'M8 5v3.6', 'M8 10.9v.2'],
  pin: ['M6 2.5h4l-.6 4.2l2.1 2.3h-7l2.1-2.3z', 'M8 9v4.5'],
  mute: ['M4.5 11.5h7.5c-1-1-1.2-2-1.2-4a2.8 2.8 0 0 0-5.6 0c0 2-.2 3-1.2 4z', 'M2.5 2.5l11 11'],
  at: ['M10.5 8a2.5 2.5 0 1 1-5 0a2.5 2.5 0 0 1 5 0v.8a1.5 1.5 0 0 0 3 0v-.8a5.5 5.5 0 1 0-2.2 4.4'],
  image: ['M2.5 3.5h11v9h-11z', 'M2.5 11l3.3-3.3l2.7 2.7l1.7-1.7l3.3 3.3', 'M10.5 6v.1'],
  file: ['M4 2.5h5l3 3v8h-8z', 'M9 2.5v3h3'],
  audio: ['M6 12V4l6-1.5v8', 'M6 12a1.7 1.7 0 1 1-3.4 0a1.7 1.7 0 0 1 3.4 0', 'M12 10.5a1.7 1.7 0 1 1-3.4 0a1.7 1.7 0 0 1 3.4 0'],
  video: ['M2.5 4.5h7.5v7h-7.5z', 'M10 7.3l3.5-2v5.4l-3.5-2'],
  hash: ['M6.5 2.5l-1.2 11M10.7 2.5l-1.2 11M2.8 6h11M2.2 10h11'],
  lock: ['M3.5 7.5h9v6h-9z', 'M5.5 7.5v-2a2.5 2.5 0 0 1 5 0v2'],
  location: ['M8 14c3-3.5 4.2-5.5 4.2-7.5a4.2 4.2 0 0 0-8.4 0c0 2 1.2 4 4.2 7.5z', 'M8 6.5v.1'],
};

// icon draws one of the small signs; label is what it says to those who do not see it.
export function icon(name, label) {
  const ns = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('viewBox', name === 'checks' ? '0 0 18 16' : '0 0 16 16');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', label);
  const title = document.createElementNS(ns, 'title');
  title.textContent = label;
  svg.append(title);
  for (const d of paths[name]) {
    const path = document.createElementNS(ns, 'path');
    path.setAttribute('d', d);
    svg.append(path);
  }
  return svg;
}

const tickIcons = {
  sending: ['clock', 'sending'],
  accepted: ['check', 'accepted'],
  stored: ['check', 'stored'],
  delivered: ['checks', 'delivered'],
  read: ['checks', 'read'],
  failed: ['alert', 'not sent'],
};

// tick shows in e how far a message has come; '' shows nothing.
export function tick(e, state) {
  if (e.dataset.state === state) return;
  e.dataset.state = state;
  e.replaceChildren(...(tickIcons[state] ? [icon(...tickIcons[state])] : []));
}

// sign shows in e some small signs: [name, label] each, null for none.
export function sign(e, signs) {
  const shown = signs.filter(Boolean);
  const key = shown.map(([name]) => name).join(' ');
  if (e.dataset.shows === key) return;
  e.dataset.shows = key;
  e.replaceChildren(...shown.map(([name, label]) => icon(name, label)));
}

// avatar fills e with a profile's picture where this origin has it (other hosts would
// learn who looks), else with initials, or the sign of what is nobody, in one of eight
// colours; online sets a dot.
export function avatar(e, profile, online = false) {
  const id = profile?.id ?? '0';
  const name = profile?.nickname || profile?.handle || profile?.sign || '?';
  const picture = profile?.avatar?.startsWith(`${location.origin}/`) ? profile.avatar : '';
  const key = `${id} ${name} ${picture} ${online}`;
  if (e.dataset.of === key) return;
  e.dataset.of = key;
  const words = name.split(/[\s._-]+/u).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)] : [words[0] ?? '?'];
  e.replaceChildren(picture ? el('img', { src: picture, alt: '' }) : profile?.sign ? icon(name, '') : letters.map((w) => [...w][0]).join('').toLocaleUpperCase(),
    ...(online ? [el('span', { class: 'dot' })] : []));
  e.className = `avatar avatar-${Number(id) % 8}`;
  e.setAttribute('aria-hidden', 'true');
}

// portrait is a new element with a profile's avatar.
export function portrait(profile, online) {
  const e = el('span');
  avatar(e, profile, online);
  return e;
}
