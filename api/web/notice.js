// Notices: what has happened to a group, as a sentence.

import { forever } from './format.js';

const roles = { owner: 'the owner', admin: 'an admin', member: 'a member' };

// noticeText is the sentence. called names people as this reader knows them; me is the
// reader's ID, clock shows a time.
export function noticeText({ kind, actor, users = [], count = users.length, name = '', role, until }, { me, called, clock }) {
  const one = (u, start) => (u.id === me ? (start ? 'You' : 'you') : called(u));
  const who = actor ? one(actor, true) : 'The system';
  const whom = list(users.map((u) => one(u, false)), count);
  const plural = count > 1 || users[0]?.id === me;
  const self = actor && users.length === 1 && users[0].id === actor.id;
  const subject = list(users.map((u, i) => one(u, i === 0)), count);
  switch (kind) {
    case 'created': return users.length && !self ? `${who} created the group “${name}” with ${whom}` : `${who} created the group “${name}”`;
    case 'dissolved': return `${who} dissolved the group`;
    case 'updated': return name ? `${who} changed the group “${name}”` : `${who} changed the group`;
    case 'joined': return !actor || self ? `${subject} joined` : `${who} added ${whom}`;
    case 'left': return `${users.length ? subject : who} left`;
    case 'removed': return `${who} removed ${whom}`;
    case 'role': return `${who} made ${whom} ${roles[role] ?? role}`;
    case 'transferred': return `${who} made ${whom} the owner`;
    case 'muted': return `${who} muted ${whom}${until && until < forever ? ` until ${clock(until)}` : ''}`;
    case 'unmuted': return `${who} let ${whom} write again`;
    case 'muted_all': return `${who} let only admins write`;
    case 'unmuted_all': return `${who} let everybody write again`;
    case 'channel_created': return `${who} created the channel “${name}”`;
    case 'channel_renamed': return `${who} named the channel “${name}”`;
    case 'channel_removed': return `${who} removed the channel “${name}”`;
    default: return `${subject || who} ${plural ? 'were' : 'was'} changed`; // of a newer server
  }
}

// list joins names: "Ann, Bob and 3 others".
function list(names, count) {
  const shown = names.slice(0, count > 4 ? 3 : 4);
  const rest = count - shown.length;
  if (rest > 0) shown.push(rest === 1 ? '1 other' : `${rest} others`);
  return shown.length > 1 ? `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}` : shown[0] ?? 'nobody';
}
