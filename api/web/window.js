// The window of a conversation that was opened: every message between its first and its
// last, without holes. Everything the server says may come twice, late or out of order:
// a message is known by its seq, and of two the one with the higher change holds.

const maxShown = 10_000; // messages of one window; older ones are then not loaded
const keptShown = 200; // messages of a window that is no longer looked at

// begin makes an empty window that knows of changes and deletions up to those numbers.
export const begin = (more, change, deletion) => ({ items: [], more, change, deletion });

// bottom is the first seq that the reader may see.
export const bottom = (c) => Math.max(c.firstSeq, c.floor + 1);

export const first = (c) => c.window?.items[0]?.seq ?? 0;
export const have = (c) => c.window?.items.at(-1)?.seq ?? bottom(c) - 1;
export const find = (c, seq) => {
  const items = c.window?.items ?? [];
  return items[seq - (items[0]?.seq ?? 0)]; // no holes: the place is the difference
};

// full says that a window grows no further backwards.
export const full = (c) => c.window.items.length >= maxShown;

// append adds what comes next; what would leave a hole waits for a pull. any takes the
// first of a new window wherever it begins.
export function append(c, items, any = false) {
  for (const m of items) {
    const next = have(c) + 1;
    if (m.seq === next || (any && m.seq > next)) c.window.items.push(m);
    else if (m.seq < next) replace(c, m);
  }
}

export function prepend(c, items, more) {
  const top = first(c);
  c.window.items.unshift(...items.filter((m) => m.seq < top));
  c.window.more = more;
}

// replace puts a message that was changed in its place.
export function replace(c, m) {
  const old = find(c, m.seq);
  if (old && !old.deleted && (m.deleted || (m.change ?? 0) > (old.change ?? 0))) c.window.items[m.seq - first(c)] = m;
}

// hide leaves of a message what its reader sees after deleting it for themselves.
export const hide = (m) => ({ ...m, deleted: true, content: {}, reply_to: undefined, reactions: undefined, edited_at: undefined });

// cut lets go of what the reader may no longer see.
export function cut(c) {
  if (!c.window) return;
  const from = bottom(c);
  if (first(c) >= from || c.window.items.length === 0) return;
  c.window.items = c.window.items.filter((m) => m.seq >= from);
  c.window.more = false;
}

// trim lets go of what a window holds beyond its newest messages.
export function trim(c) {
  if (!c.window || c.window.items.length <= keptShown) return;
  c.window.items.splice(0, c.window.items.length - keptShown);
  c.window.more = true;
}

// withOwn carries over to a pushed message which reactions are the reader's own; a push
// is the same for everybody, and names who made the change.
export function withOwn(message, before, me, changed) {
  const own = new Set((before?.reactions ?? []).filter((r) => r.mine).map((r) => r.reaction));
  if (changed.user_id === me && changed.kind === 'react') own.add(changed.reaction);
  if (changed.user_id === me && changed.kind === 'unreact') own.delete(changed.reaction);
  return { ...message, reactions: message.reactions?.map((r) => ({ ...r, mine: own.has(r.reaction) })) };
}
