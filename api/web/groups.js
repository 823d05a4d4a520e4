// Groups as this user sees them: roles, who may write, and the calls that change them.

import { quietly } from './api.js';

const pages = 5; // of 100 members, where they are looked through

export class Groups {
  #session;
  #store;
  #known = new Map(); // group ID → group
  #asking = new Map(); // group ID → whether to ask once more

  constructor(session, store) {
    this.#session = session;
    this.#store = store;
  }

  // of is the group of a channel, or undefined where it is not known yet or is no channel.
  of(c) { return this.#known.get(c?.channel?.group_id); }

  manages(c) { return ['admin', 'owner'].includes(this.of(c)?.role); }

  // silent says why this user may not write in c; '' where they may.
  silent(c) {
    if (c.left) return 'You are no longer in this conversation.';
    const group = this.of(c);
    if (!group || this.manages(c)) return '';
    const now = this.#store.now();
    if (group.muted_until > now) return 'An admin has muted you here.';
    return group.muted_all ? 'Only admins may write here just now.' : '';
  }

  // load asks for a group anew. Calls while that goes on are answered by one more: the
  // answer may be older than they.
  async load(id) {
    if (this.#asking.has(id)) {
      this.#asking.set(id, true);
      return;
    }
    try {
      do {
        this.#asking.set(id, false);
        await quietly(() => this.get(id));
      } while (this.#asking.get(id));
    } finally {
      this.#asking.delete(id);
    }
  }

  async get(id) { return this.#learn(await this.#session.call('GET', `/v1/groups/${id}`)); }

  #learn(group) {
    if ((this.#known.get(group.id)?.version ?? 0) <= group.version) this.#known.set(group.id, group);
    this.#store.changed('group', group.id);
    return this.#known.get(group.id);
  }

  // change asks for a change; what it answers holds whether or not everybody is told yet.
  async change(method, path, body) {
    const answer = await this.#session.call(method, `/v1/groups${path}`, body);
    if (answer?.group) this.#learn(answer.group);
    return answer;
  }

  // members pages through who is in a group, or with conversation in a private channel.
  members(id, after = '', conversation = '') {
    const channel = conversation && `/channels/${conversation}`;
    return this.#session.call('GET', `/v1/groups/${id}${channel}/members?limit=100${after && `&after=${after}`}`);
  }

  // everyone is the first of a group's members, as many as it makes sense to show at once.
  async everyone(id, conversation = '') {
    const all = [];
    for (let i = 0, after = ''; i < pages; i++) {
      const page = await this.members(id, after, conversation);
      for (const { user } of page.items) this.#store.people.learn(user);
      all.push(...page.items.map((m) => m.user));
      if (!page.has_more) break;
      after = page.next;
    }
    return all;
  }

  requests(id, after = '') { return this.#session.call('GET', `/v1/groups/${id}/requests?limit=100${after && `&after=${after}`}`); }
}
