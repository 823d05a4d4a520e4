// What is known of people: their profiles, one's contacts with the names one gave them,
// and whom one has blocked.

import { quietly } from './api.js';
import { nameOf } from './format.js';

export class People {
  #profiles = new Map(); // user ID → the newest profile seen
  contacts = new Map(); // user ID → one's entry about them
  blocked = new Set(); // user IDs
  #version = null; // how far contacts have come; null: not asked yet
  #asking = null;
  #session;
  #store;

  // attach gives it who asks, and whom to tell.
  attach(session, store) {
    this.#session = session;
    this.#store = store;
  }

  learn(profile) {
    if (profile && profile.id !== '0') this.#profiles.set(profile.id, { ...this.#profiles.get(profile.id), ...profile });
  }

  get(id) { return this.#profiles.get(id); }

  // fetch asks for a profile that was not seen yet.
  async fetch(id) {
    if (!this.#profiles.has(id)) this.learn(await this.#session.call('GET', `/v1/users/${id}`));
    return this.#profiles.get(id);
  }

  async find(handle) {
    const profile = await this.#session.call('GET', `/v1/users?handle=${encodeURIComponent(handle)}`);
    this.learn(profile);
    return profile;
  }

  // called is what this user calls somebody: the remark they gave, else the name.
  called(profile) { return this.contacts.get(profile?.id)?.remark || nameOf(profile); }

  state(id) { return this.contacts.get(id)?.state ?? 'none'; }

  of(...states) {
    return [...this.contacts.values()].filter((k) => states.includes(k.state))
      .sort((a, b) => this.called(a.user).localeCompare(this.called(b.user)));
  }

  // keepUp is told how far the contacts have come, and asks for what is missing.
  async keepUp(version) {
    if (this.#version === null || (version !== undefined && version !== this.#version)) await this.again();
  }

  // again asks whether anything was missed.
  async again() {
    this.#asking ??= this.#ask().finally(() => { this.#asking = null; });
    await this.#asking;
  }

  async #ask() {
    for (;;) {
      const since = this.#version === null ? '' : `?since=${this.#version}`;
      const page = await this.#session.call('GET', `/v1/contacts${since}`);
      if (page.full) await this.#full(page);
      else this.#take(page.items);
      this.#version = page.version ?? this.#version;
      this.#changed();
      if (page.full || !page.has_more) return;
    }
  }

  async #full(page) {
    const all = [...page.items];
    for (let { next } = page; next;) {
      const more = await this.#session.call('GET', `/v1/contacts?after=${next}`);
      all.push(...more.items);
      next = more.has_more ? more.next : '';
    }
    this.contacts.clear();
    this.#take(all);
    this.blocked = new Set((await this.#session.call('GET', '/v1/blocks')).items);
  }

  #take(items) {
    for (const k of items) {
      this.learn(k.user);
      if (k.state === 'none') this.contacts.delete(k.user.id);
      else if (k.version >= (this.contacts.get(k.user.id)?.version ?? 0)) this.contacts.set(k.user.id, k);
    }
  }

  // push takes what happened between this user and another.
  push({ contact }) {
    if (this.#version === null || contact.version > this.#version + 1) {
      quietly(() => this.keepUp(contact.version));
      return;
    }
    this.#take([contact]);
    this.#version = Math.max(this.#version, contact.version);
    this.#changed();
  }

  async request(target, message) {
    return this.#mine(await this.#session.call('POST', '/v1/contacts/requests', { ...target, ...(message && { message }) }));
  }

  async accept({ request_id: id }) { return this.#mine(await this.#session.call('POST', `/v1/contacts/requests/${id}/accept`)); }

  async refuse(contact) {
    await this.#session.call('POST', `/v1/contacts/requests/${contact.request_id}/refuse`);
    this.#gone(contact.user.id);
  }

  async withdraw(contact) {
    await this.#session.call('DELETE', `/v1/contacts/requests/${contact.request_id}`);
    this.#gone(contact.user.id);
  }

  async remove(id) {
    await this.#session.call('DELETE', `/v1/contacts/${id}`);
    this.#gone(id);
  }

  async remark(id, remark) { return this.#mine(await this.#session.call('PATCH', `/v1/contacts/${id}`, { remark })); }

  async block(id) {
    await this.#session.call('PUT', `/v1/blocks/${id}`);
    this.blocked.add(id);
    this.#changed();
  }

  async unblock(id) {
    await this.#session.call('DELETE', `/v1/blocks/${id}`);
    this.blocked.delete(id);
    this.#changed();
  }

  #mine(contact) {
    this.#take([contact]);
    if (contact.version === this.#version + 1) this.#version = contact.version;
    this.#changed();
    return contact;
  }

  // gone shows at once what the next sync says too: its version is not told here.
  #gone(id) {
    this.contacts.delete(id);
    this.#changed();
  }

  #changed() {
    this.#store.changed('people');
    this.#store.changed('list');
  }
}
