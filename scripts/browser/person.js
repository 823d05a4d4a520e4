// A person at the page: what they do and what they see.

import assert from 'node:assert/strict';

export class Person {
  page;
  handle;
  faults = []; // what the page's console complained about
  #context;
  #url;

  static async arrive(browser, url, options = {}) {
    const p = new Person();
    p.#context = await browser.newContext({ viewport: { width: 1200, height: 800 }, ...options });
    p.#url = url;
    await p.openTab();
    return p;
  }

  // openTab opens the page; the tab before stays as it is.
  async openTab() {
    this.page = await this.#context.newPage();
    this.page.setDefaultTimeout(15_000);
    this.page.on('pageerror', (err) => this.faults.push(err.stack));
    this.page.on('console', (m) => {
      // The browser itself reports requests that met no engine.
      if (m.type() === 'error' && !/ERR_|WebSocket connection|status of 4/u.test(m.text())) this.faults.push(m.text());
    });
    await this.page.goto(this.#url);
    return this.page;
  }

  closeTab() { return this.page.close(); }

  async #entered() {
    await this.page.waitForSelector('#app:not([hidden])');
    this.handle = (await this.page.textContent('#me .quiet')).slice(1);
  }

  async takeDemo() {
    await this.page.click('#demo');
    await this.#entered();
  }

  async register(handle, password, nickname) {
    await this.page.click('#other');
    await this.page.fill('[name=handle] >> visible=true', handle);
    await this.page.fill('[name=nickname]', nickname);
    await this.page.fill('[name=password]', password);
    await this.page.press('[name=password]', 'Enter');
    await this.#entered();
  }

  async login(handle, password) {
    await this.page.fill('[name=handle] >> visible=true', handle);
    await this.page.fill('[name=password]', password);
    await this.page.press('[name=password]', 'Enter');
    await this.#entered();
  }

  async goOn() {
    await this.page.click('#remembered button');
    await this.#entered();
  }

  async startChat(handle) {
    await this.page.fill('#start-handle', handle);
    await this.page.press('#start-handle', 'Enter');
    await this.page.waitForSelector('#open:not([hidden])');
  }

  row(name) { return this.page.locator('.row', { hasText: name }); }
  message(text) { return this.page.locator('.message', { hasText: text }); }
  seqs() { return this.page.$$eval('.message', (all) => all.map((e) => Number(e.dataset.seq))); }

  async open(name) {
    await this.row(name).click();
    await this.page.waitForSelector('#open:not([hidden])');
  }

  async write(text) {
    await this.page.fill('#text', text);
    await this.page.press('#text', 'Enter');
  }

  // sees waits until a message is shown, once, and for one of their own how far it came.
  async sees(text, state) {
    const ticks = state ? ` >> .ticks[data-state=${state}]` : '';
    await this.page.waitForSelector(`.message:has-text(${JSON.stringify(text)})${ticks}`);
    assert.equal(await this.message(text).count(), 1, `"${text}" is shown once`);
  }

  async unread(name, count) {
    try {
      await this.row(name).locator('.badge', { hasText: count === 0 ? /^$/u : new RegExp(`^${count}$`, 'u') }).waitFor({ state: 'attached' });
    } catch (e) {
      e.message += `\nthe list: ${JSON.stringify(await this.page.locator('.row').allInnerTexts())}`;
      throw e;
    }
  }

  // act takes an entry of a message's menu.
  async act(text, entry) {
    const message = this.page.locator('.message', { has: this.page.locator('.text', { hasText: text }) });
    await message.hover();
    await message.locator('.more').click();
    await this.page.locator('.menu').getByText(entry, { exact: true }).or(this.page.locator(`.menu [aria-label="${entry}"]`)).first().click();
  }

  // setting takes an entry of the open conversation's menu.
  async setting(entry) {
    await this.page.click('#conversation-menu');
    await this.page.locator('.menu').getByText(entry, { exact: true }).click();
  }

  // notice waits for a sentence about what happened.
  notice(text) { return this.page.locator('.system', { hasText: text }).first().waitFor(); }

  // member takes an entry of the menu of a member in the group's panel, once it is there:
  // a menu that is open stays as the member was.
  async member(name, entry) {
    const wanted = this.page.locator('.menu').getByText(entry, { exact: true });
    for (;;) {
      await this.page.click(`dialog [aria-label="What to do with ${name}"]`);
      await this.page.locator('.menu').waitFor();
      if (await wanted.count() > 0) break;
      await this.page.locator('.menu').evaluate((menu) => menu.hidePopover());
      await this.page.locator('.menu').waitFor({ state: 'detached' });
    }
    await wanted.click();
  }

  closePanel() { return this.page.locator('dialog.panel').last().locator('.close').click(); }

  // place is where a message that is shown stands.
  async place(text) {
    return { seq: Number(await this.message(text).getAttribute('data-seq')), conversation: new URL(this.page.url()).hash.slice(1) };
  }

  // remembered is the login that the page goes on as.
  remembered() { return this.page.evaluate(() => JSON.parse(localStorage.getItem('curlew.logins'))[0]); }

  // refused waits until somebody's block holds against this person, or with false until
  // it does no more: a copy of the blocks may be two seconds old.
  async refused(engine, handle, wanted = true) {
    const { access } = await this.remembered();
    for (let i = 0; i < 200; i++) {
      const body = { client_msg_id: `block-${wanted}-${i}`, to: { handle }, content: { text: 'let through' } };
      if (await engine.call('POST', '/v1/messages', body, access).then(() => false, () => true) === wanted) return;
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    throw new Error(`${handle} is ${wanted ? 'not ' : ''}closed to ${this.handle}`);
  }

  // through has this person's next connections pass see, which may change a frame of the
  // server's or drop it by returning null; asked sees what the page asks.
  async through(see, asked = () => {}) {
    await this.page.routeWebSocket(/\/v1\/ws/u, (client) => {
      const server = client.connectToServer();
      server.onMessage((text) => {
        const frame = see(JSON.parse(text));
        if (frame) client.send(JSON.stringify(frame));
      });
      client.onMessage((text) => {
        asked(JSON.parse(text));
        server.send(text);
      });
    });
  }
}
