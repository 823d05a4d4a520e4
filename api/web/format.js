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

// textOf is what a message says, as plain text; custom content is the application's.
export function textOf(message) {
  const text = message?.content?.text;
  return typeof text === 'string' ? text : 'This message needs another app';
}
