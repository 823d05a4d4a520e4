// What a message holds, as elements. Nothing is loaded from other hosts by itself: a
// file is a card whose link opens it elsewhere, without telling where from.

import { el, icon } from './dom.js';
import { duration, quoteText, size } from './format.js';

// body makes the element of a message's content.
export function body(m, people, me) {
  if (m.recalled_at) return el('span', { class: 'text other' }, 'Message taken back');
  switch (m.type) {
    case 'text': case 'system': return el('span', { class: 'text' }, ...marked(m, people, me));
    case 'image': case 'file': case 'audio': case 'video': return media(m);
    case 'location': return place(m.content);
    default: return custom(m.content);
  }
}

// mentionPattern finds who is mentioned: a handle, as the server takes them.
export const mentionPattern = /@([a-z][a-z0-9_.-]{1,30}[a-z0-9_])/giu;

// marked is a text with the names of those it mentions set off.
function marked({ content, mentions = [], mentions_all: all }, people, me) {
  const text = String(content?.text ?? '');
  if (mentions.length === 0 && !all) return [text];
  const ids = new Map(mentions.map((id) => [people.get(id)?.handle, id]));
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(mentionPattern)) {
    const handle = found[1].toLowerCase();
    const id = ids.get(handle);
    if (!id && !(all && handle === 'all')) continue;
    parts.push(text.slice(at, found.index), el('span', { class: !id || id === me ? 'mention me' : 'mention' }, found[0]));
    at = found.index + found[0].length;
  }
  return [...parts, text.slice(at)];
}

const names = { image: 'Photo', file: 'File', audio: 'Audio', video: 'Video' };

function media({ type, content }) {
  const { url, name, mime, size: bytes, width, height, duration_ms: ms } = content;
  const facts = [mime, size(bytes), width && height ? `${width} × ${height}` : '', ms ? duration(ms) : '', hostOf(url)];
  return card(type, name || names[type], facts, link(url, `Open ${names[type].toLowerCase()}`));
}

function place({ latitude, longitude, name }) {
  const at = `${latitude.toFixed(5)}, ${longitude.toFixed(5)}`;
  const url = `https://www.openstreetmap.org/?mlat=${latitude}&mlon=${longitude}#map=15/${latitude}/${longitude}`;
  return card('location', name || 'Place', [at], link(url, 'Show on a map'));
}

function custom(content) {
  return el('details', { class: 'custom' }, el('summary', {}, 'Message of another app'),
    el('pre', {}, JSON.stringify(content, null, 2)));
}

function card(kind, title, facts, open) {
  return el('div', { class: 'card-content', 'data-kind': kind }, icon(kind, names[kind] ?? 'Place'),
    el('div', { class: 'about' }, el('bdi', { class: 'title' }, title), el('span', { class: 'quiet' }, facts.filter(Boolean).join(' · ')), open));
}

// link opens another host in a tab of its own, which learns nothing of this one.
function link(url, text) {
  if (!hostOf(url)) return null;
  return el('a', { href: url, target: '_blank', rel: 'noopener noreferrer', referrerpolicy: 'no-referrer' }, text);
}

// hostOf is the host of an http or https URL, or ''.
function hostOf(url) {
  try {
    const { protocol, host } = new URL(url);
    return protocol === 'https:' || protocol === 'http:' ? host : '';
  } catch {
    return '';
  }
}

// quote is the message replied to; pressing it leads there.
export function quote(q, called, go) {
  return el('button', { type: 'button', class: 'quote', dir: 'auto', 'aria-label': `In reply to ${called(q.sender)}: ${quoteText(q)}`, onclick: () => go(q.seq) },
    el('bdi', { class: 'name' }, called(q.sender)), el('span', { class: 'line' }, quoteText(q)));
}
