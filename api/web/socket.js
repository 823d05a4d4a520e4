// One device's connection: made, and made again when it is lost, with full jitter. Asks
// and answers by ID; hands pushes on in the order in which they came.

import { WireError } from './api.js';

const subprotocol = 'curlew.v1.json';
const answerWithin = 10_000; // ms, above the server's own 5 s; silence means it is gone
const retryMin = 300;
const retryMax = 15_000;
const settled = 5_000; // ms up after which a loss starts the delays anew
const maxAsked = 256; // requests without an answer

// Close codes of the server that end the connection for good (api/protocol/codes.go).
const unauthenticated = 4401;
const replaced = 4409;
const isFinal = (code) => code >= 4400 && code < 4500 && code !== 4408; // 4408: was too slow

export class Socket {
  #url;
  #session;
  #on;
  #ws = null;
  #up = false;
  #stopped = false;
  #asked = new Map(); // request ID → {resolve, reject, timer}
  #nextID = 1;
  #wake = () => {};
  #renewal;

  // on: up(hello), down(retryAt), push(kind, data), over(why): 'replaced' or 'signed-out'.
  constructor(url, session, on) {
    this.#url = url;
    this.#session = session;
    this.#on = on;
  }

  get up() { return this.#up; }

  async run() {
    let refused = false; // the last token was not taken
    for (let attempt = 0; !this.#stopped; attempt++) {
      let end = { code: 0, after: 0, lasted: 0 };
      try {
        end = await this.#connection(await this.#session.token(refused));
      } catch (err) {
        if (!(err instanceof WireError)) throw err;
        if (err.code === 'unauthenticated' || !err.retryable) return this.#over('signed-out');
        end.after = err.after;
      }
      if (this.#stopped) return undefined;
      if (end.lasted > settled) attempt = 0;
      if (end.code === replaced) return this.#over('replaced');
      if (isFinal(end.code) && (end.code !== unauthenticated || refused)) return this.#over('signed-out');
      refused = end.code === unauthenticated;
      const delay = end.after + Math.random() * Math.min(retryMax, retryMin * 2 ** attempt);
      this.#on.down(Date.now() + delay);
      await new Promise((resolve) => {
        const t = setTimeout(resolve, delay);
        this.#wake = () => { clearTimeout(t); resolve(); };
      });
      this.#wake = () => {};
    }
    return undefined;
  }

  // retry cuts the delay before the next attempt short.
  retry() { this.#wake(); }

  stop() {
    this.#stopped = true;
    this.#ws?.close(1000);
    this.#wake();
  }

  #over(why) {
    this.#stopped = true;
    this.#on.over(why);
  }

  // ask makes one request; it rejects with WireError.
  ask(cmd, data) {
    if (!this.#up && cmd !== 'connect') return Promise.reject(lost());
    if (this.#asked.size >= maxAsked) {
      return Promise.reject(new WireError({ code: 'overloaded', message: 'Too much at once.', retryable: true, retry_after_ms: 1000 }));
    }
    return new Promise((resolve, reject) => {
      const id = String(this.#nextID++);
      const timer = setTimeout(() => this.#ended?.({ code: 0 }), answerWithin);
      this.#asked.set(id, { resolve, reject, timer });
      this.#ws.send(JSON.stringify({ id, cmd, data }));
    });
  }

  #ended = null;

  // connection lives through one connection and resolves with how it ended.
  #connection(token) {
    return new Promise((resolve) => {
      const ws = new WebSocket(this.#url, subprotocol);
      this.#ws = ws;
      let upSince = 0;
      // A connection that does not answer may take minutes to close: it is left behind.
      this.#ended = ({ code, reason }) => {
        this.#ended = null;
        clearTimeout(opening);
        clearTimeout(this.#renewal);
        this.#up = false;
        this.#ws = null;
        ws.onopen = ws.onmessage = ws.onclose = null;
        ws.close();
        for (const a of this.#asked.values()) {
          clearTimeout(a.timer);
          a.reject(lost());
        }
        this.#asked.clear();
        resolve({ code, after: afterOf(reason), lasted: upSince && Date.now() - upSince });
      };
      const opening = setTimeout(() => this.#ended({ code: 0 }), answerWithin);
      ws.onclose = (e) => this.#ended(e);
      ws.onmessage = (e) => this.#take(JSON.parse(e.data));
      ws.onopen = async () => {
        clearTimeout(opening);
        try {
          const hello = await this.ask('connect', { token, device: this.#session.device, platform: 'web' });
          upSince = Date.now();
          this.#up = true;
          this.#renewIn(hello.expires_at - hello.server_time);
          this.#on.up(hello);
        } catch (err) {
          if (!(err instanceof WireError)) throw err; // else the close that follows says what to do
        }
      };
    });
  }

  #take(frame) {
    if (frame.push) {
      this.#on.push(frame.push, frame.data);
      return;
    }
    const a = this.#asked.get(frame.id);
    if (!a) return;
    this.#asked.delete(frame.id);
    clearTimeout(a.timer);
    if (frame.error) a.reject(new WireError(frame.error));
    else a.resolve(frame.data);
  }

  // renewIn gives the connection a newer token before the one it has expires in ms.
  #renewIn(ms) {
    const ws = this.#ws;
    this.#renewal = setTimeout(async () => {
      try {
        const token = await this.#session.token(true);
        const began = Date.now();
        const { expires_at: until } = await this.ask('refresh', { token });
        if (ws === this.#ws) this.#renewIn(until - began);
      } catch (err) {
        if (!(err instanceof WireError)) throw err;
        // Whatever is wrong for good shows when the server closes at the token's end.
        if (ws === this.#ws && err.retryable) this.#renewIn(Math.max(ms / 4, 20_000));
      }
    }, Math.min(Math.max(ms * 0.8, 5_000), 2 ** 31 - 1));
  }
}

const lost = () => new WireError({ code: 'disconnected', message: 'The connection was lost.', retryable: true });

// afterOf reads {"retry_after_ms":n} out of a close reason, where it is one.
function afterOf(reason) {
  try {
    return JSON.parse(reason).retry_after_ms || 0;
  } catch {
    return 0;
  }
}
