// Who this tab is. A login is one device of one user. The browser remembers its
// logins, so that a demo account outlives its tab; which of them a tab is, the tab
// alone knows, so two tabs can be two people.

import { call, random, WireError } from './api.js';
import { read, write } from './storage.js';

const loginsKey = 'curlew.logins';
const deviceKey = 'curlew.device';
const farewellKey = 'curlew.farewell';
const maxLogins = 8; // remembered; beyond it the one used longest ago is forgotten
const spare = 30_000; // ms: a token with less than this left is exchanged first

const logins = () => read(localStorage, loginsKey, []);
const kept = (device) => logins().find((l) => l.device === device);

// isRemembered says whether this browser can go on as a device.
export const isRemembered = (device) => kept(device) !== undefined;

function remember(login) {
  const others = logins().filter((l) => l.device !== login.device);
  write(localStorage, loginsKey, [login, ...others].slice(0, maxLogins));
}

function forget(device) {
  write(localStorage, loginsKey, logins().filter((l) => l.device !== device));
}

// farewell is why the last login of this tab ended, told once.
export function farewell() {
  const why = read(sessionStorage, farewellKey, '');
  write(sessionStorage, farewellKey, null);
  return why;
}

// remembered are the logins that a new tab may go on as; open says that another tab does.
export async function remembered() {
  const held = navigator.locks ? (await navigator.locks.query()).held.map((l) => l.name) : [];
  return logins()
    .filter((l) => l.refreshUntil > Date.now())
    .map((l) => ({ ...l, open: held.includes(lockName(l.device)) }));
}

const lockName = (device) => `curlew.tab.${device}`;

export class Session {
  #login;

  constructor(login) {
    this.#login = login;
    write(sessionStorage, deviceKey, login.device);
    remember(login);
    // Held for as long as the tab lives; other tabs see it in remembered().
    navigator.locks?.request(lockName(login.device), { mode: 'shared' }, () => new Promise(() => {}));
  }

  // ofTab is what this tab was before a reload, or null.
  static ofTab() {
    const login = kept(read(sessionStorage, deviceKey, null));
    return login ? new Session(login) : null;
  }

  // enter logs in a new device of this tab's own; path is register, login or demo.
  static async enter(path, credentials = {}) {
    const body = { ...credentials, device: `web-${random(12)}`, platform: 'web' };
    return new Session(loginOf(await call('POST', `/v1/auth/${path}`, { body })));
  }

  get user() { return this.#login.user; }
  get device() { return this.#login.device; }

  // learn keeps a newer profile.
  learn(user) {
    this.#login = { ...(kept(this.device) ?? this.#login), user };
    remember(this.#login);
  }

  // token returns an access token that is good a while yet, or with renew one other
  // than the last. It throws WireError; "unauthenticated" is final.
  async token(renew = false) {
    const last = this.#login.access;
    if (!renew && this.#login.accessUntil > Date.now() + spare) return last;
    // A refresh token is good once, and two tabs may be one device after a duplication:
    // one of them exchanges it, the other takes what it finds.
    return this.#alone(async () => {
      const found = kept(this.device) ?? this.#login;
      if (found.access !== last && found.accessUntil > Date.now() + spare) {
        this.#login = found;
      } else {
        const refresh_token = found.refresh;
        this.#login = loginOf(await call('POST', '/v1/auth/refresh', { body: { refresh_token } }));
        remember(this.#login);
      }
      return this.#login.access;
    });
  }

  #alone(work) {
    const locks = navigator.locks;
    return locks ? locks.request(`curlew.refresh.${this.device}`, work) : work();
  }

  // call asks the HTTP face as this user.
  async call(method, path, body) {
    try {
      return await call(method, path, { body, token: await this.token() });
    } catch (err) {
      if (err.code !== 'unauthenticated') throw err;
      return call(method, path, { body, token: await this.token(true) });
    }
  }

  // leave logs the device out, here at any rate.
  async leave() {
    try {
      await this.call('POST', '/v1/auth/logout');
    } catch (err) {
      if (!(err instanceof WireError)) throw err; // else the server ends it when it expires
    }
    this.drop();
  }

  // drop forgets a login that is no longer good; the way in says why.
  drop(why = null) {
    forget(this.device);
    write(sessionStorage, deviceKey, null);
    write(sessionStorage, farewellKey, why);
  }
}

// loginOf keeps of tokens what a later tab needs. Times are moved to this machine's clock
// by how long they last, should the two clocks differ.
function loginOf(t) {
  const lasts = (until) => Math.max(until - issuedAt(t.access_token), 0);
  return {
    device: t.device, user: t.user,
    access: t.access_token, accessUntil: Date.now() + lasts(t.expires_at),
    refresh: t.refresh_token, refreshUntil: Date.now() + lasts(t.refresh_expires_at),
  };
}

// issuedAt is the server's clock as its token tells it, in ms.
function issuedAt(token) {
  try {
    const claims = JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
    return claims.iat * 1000;
  } catch {
    return Date.now();
  }
}
