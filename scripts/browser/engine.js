// An engine of the test's own: embedded stores, free ports, data in a folder of its own.

import { spawn } from 'node:child_process';
import { createWriteStream, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

process.once('SIGTERM', () => process.exit(1)); // a test that is stopped leaves no engine behind

export class Engine {
  data = mkdtempSync(join(process.env.CURLEW_WORK, 'data-'));
  url; // of the page
  #listen = { api: '127.0.0.1:0', connector: '127.0.0.1:0', admin: '127.0.0.1:0' };
  #process;

  // start resolves once the engine has told its addresses; started again it takes the
  // same ones.
  async start() {
    const args = [`data=${this.data}`, 'logic.heartbeat=2s', ...Object.entries(this.#listen).map(([part, at]) => `${part}.listen=${at}`)];
    this.#process = spawn(process.env.CURLEW_BINARY, args.flatMap((a) => ['--set', a]), {
      cwd: this.data, stdio: ['ignore', 'pipe', 'pipe'],
    });
    process.once('exit', () => this.#process.kill('SIGKILL'));
    this.#process.stderr.pipe(createWriteStream(join(this.data, 'log'), { flags: 'a' }));
    for await (const line of createInterface({ input: this.#process.stdout })) {
      const [, what, address] = /^\s+(Open|Socket|Metrics)\s+\S+\/\/([^/\s]+)/u.exec(line) ?? [];
      if (what) this.#listen[{ Open: 'api', Socket: 'connector', Metrics: 'admin' }[what]] = address;
      if (what === 'Metrics') break;
    }
    if (this.#listen.api.endsWith(':0')) throw new Error(`the engine did not start; see ${this.data}/log`);
    this.url = `http://${this.#listen.api}`;
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
}
