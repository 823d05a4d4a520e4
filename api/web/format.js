// Times and names as people read them.

const minute = 60_000;
const day = 24 * 60 * minute;
const clockFormat = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const weekdayFormat = new Intl.DateTimeFormat(undefined, { weekday: 'short' });
const dateFormat = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const oldFormat = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', year: 'numeric' });
const longFormat = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });

const midnight = (t) => new Date(t).setHours(0, 0, 0, 0);
const daysAgo = (t, now) => Math.round((midnight(now) - midnight(t)) / day);

export const clock = (t) => clockFormat.format(t);
export const fullTime = (t) => fullFormat.format(t);

// ago is a time as the list shows it: the nearer, the finer.
export function ago(t, now) {
  if (now - t < minute) return 'now';
  if (now - t < 60 * minute) return `${Math.floor((now - t) / minute)} min`;
  const days = daysAgo(t, now);
  if (days === 0) return clock(t);
  if (days === 1) return 'Yesterday';
  if (days < 7) return weekdayFormat.format(t);
  return new Date(t).getFullYear() === new Date(now).getFullYear() ? dateFormat.format(t) : oldFormat.format(t);
}

// dayName heads the messages of one day.
export function dayName(t, now) {
  const days = daysAgo(t, now);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  return new Date(t).getFullYear() === new Date(now).getFullYear() ? longFormat.format(t) : oldFormat.format(t);
}

export const sameDay = (a, b) => midnight(a) === midnight(b);

export const nameOf = (profile) => profile?.nickname || profile?.handle || 'Unknown';

const kinds = { image: 'Photo', file: 'File', audio: 'Audio', video: 'Video', location: 'Place' };

// textOf is what a message says on one line of plain text; notices and names are the
// caller's.
export function textOf(message) {
  if (!message) return '';
  const { type, content, recalled_at: recalled, deleted } = message;
  if (recalled) return 'Message taken back';
  if (deleted) return 'Deleted message';
  if (kinds[type]) return content.name ? `${kinds[type]}: ${content.name}` : kinds[type];
  return typeof content?.text === 'string' && type !== 'custom' ? content.text : 'Message of another app';
}

// quoteText is what a quote says.
export function quoteText({ type, text, recalled }) {
  if (recalled) return 'Message taken back';
  if (kinds[type]) return text ? `${kinds[type]}: ${text}` : kinds[type];
  return text || 'Message of another app';
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const i = Math.min(Math.floor(Math.log10(bytes) / 3), 3);
  return `${(bytes / 1000 ** i).toPrecision(3)} ${['', 'kB', 'MB', 'GB'][i]}`;
}

export function duration(ms) {
  const s = Math.round(ms / 1000);
  const two = (n) => String(n).padStart(2, '0');
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

// forever is the time of what has no end, as a mute.
export const forever = Number.MAX_SAFE_INTEGER;

// seenText says whether somebody is there, or since when not.
export function seenText(presence, now) {
  if (!presence) return '';
  if (presence.online) return 'online';
  if (!presence.last_seen) return '';
  const when = ago(presence.last_seen, now);
  return when === 'now' ? 'seen just now' : `last seen ${/^\d+ min$/u.test(when) ? `${when} ago` : when === 'Yesterday' ? 'yesterday' : when}`;
}
