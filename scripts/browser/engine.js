// An engine of the test's own: embedded stores, free ports, data in a folder of its own.

import { spawn } from 'node:child_process';
import { createWriteStream, mkdtempSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

process.once('SIGTERM', () => process.exit(1)); // a test that is stopped leaves no engine behind

// freePort is below those that the system hands out by itself, so that nothing takes it
// while the engine is down.
async function freePort() {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 15_000);
    const server = createServer();
    const free = await new Promise((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

export class Engine {
  data = mkdtempSync(join(process.env.CURLEW_WORK, 'data-'));
  url; // of the page
  #listen;
  #process;

  // start resolves once the engine has told its address and answers there; started again it
  // takes the same one.
  async start() {
    this.#listen ??= { api: await freePort(), connector: await freePort(), admin: 0 };
    const args = [`data=${this.data}`, 'logic.heartbeat=2s', ...Object.entries(this.#listen).map(([part, port]) => `${part}.listen=127.0.0.1:${port}`)];
    this.#process = spawn(process.env.CURLEW_BINARY, args.flatMap((a) => ['--set', a]), {
      cwd: this.data, stdio: ['ignore', 'pipe', 'pipe'],
    });
    process.once('exit', () => this.#process.kill('SIGKILL'));
    this.#process.stderr.pipe(createWriteStream(join(this.data, 'log'), { flags: 'a' }));
    for await (const line of createInterface({ input: this.#process.stdout })) {
      this.url = /^\s+Open\s+(\S+)/u.exec(line)?.[1];
      if (this.url) break;
    }
    if (!this.url) throw new Error(`the engine did not start; see ${this.data}/log`);
    for (;;) {
      try {
        if ((await fetch(`${this.url}/health`)).ok) return;
      } catch {
        if (this.#process.exitCode !== null) throw new Error('the engine ended');
      }
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
  }

  // kill is SIGKILL: nothing is put in order.
  async kill() {
    if (!this.#process || this.#process.exitCode !== null) return;
    const gone = new Promise((resolve) => { this.#process.once('exit', resolve); });
    this.#process.kill('SIGKILL');
    await gone;
  }

  // call asks the HTTP face.
  async call(method, path, body, token) {
    const response = await fetch(this.url + path, {
      method, body: body && JSON.stringify(body),
      headers: { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) },
    });
    const answer = response.status === 204 ? null : await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${answer.code} ${answer.message}`);
    return answer;
  }

  // login is the access token of another device of somebody's.
  async login(handle, password, device) {
    return (await this.call('POST', '/v1/auth/login', { handle, password, device })).access_token;
  }
}
