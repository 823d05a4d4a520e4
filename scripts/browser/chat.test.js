// Two people chat through the page, in a real browser against a real engine.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './browser.js';
import { Engine } from './engine.js';
import { Person } from './person.js';

const phone = { viewport: { width: 390, height: 780 }, isMobile: true, hasTouch: true, colorScheme: 'dark' };
const engine = new Engine();
let browser, ann, bob;

// step is a test that goes on where the one before it ended.
const step = (name, run) => test(name, { timeout: 45_000 }, run);

before(async () => { [browser] = await Promise.all([launch(), engine.start()]); });

after(async () => {
  await browser?.close();
  await engine.kill();
});

step('one registers, one takes a demo account, and they chat', async () => {
  [ann, bob] = await Promise.all([Person.arrive(browser, engine.url), Person.arrive(browser, engine.url, phone)]);
  await Promise.all([ann.register('ann', 'correct horse', 'Ann'), bob.takeDemo()]);
  await ann.startChat(`@${bob.handle.toUpperCase()}`);
  await ann.write('Hello, Bob');
  await bob.unread('Ann', 1);
  await ann.sees('Hello, Bob', 'delivered');
  await bob.open('Ann');
  await bob.sees('Hello, Bob');
  await ann.sees('Hello, Bob', 'read');
  await bob.write('Hello, Ann');
  await ann.sees('Hello, Ann');
  await bob.sees('Hello, Ann', 'read');
  await bob.unread('Ann', 0);
});

step('what is written is shown as it is: markup, links and both directions as text', async () => {
  const texts = ['<img src=x onerror=alert(1)> <b>bold</b>', 'https://example.com/?a=1&b=<2>', `long ${'x'.repeat(4000)}`, 'مرحبا abc ‮ never closed'];
  for (const t of texts) await ann.write(t);
  await bob.sees('never closed');
  const shown = await bob.page.$$eval('.message .text', (all) => all.map((e) => e.textContent));
  assert.deepEqual(shown.slice(-4), texts);
  assert.equal(await bob.page.locator('#messages img, #messages a, #messages b').count(), 0);
  assert.equal(await bob.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, 'nothing runs out of a phone’s screen');
  assert.equal(await bob.page.locator('.message', { hasText: 'never closed' }).locator('.bubble').evaluate((e) => getComputedStyle(e).direction), 'rtl');
});

step('a phone shows one pane at a time', async () => {
  const shows = async (id) => bob.page.locator(id).isVisible();
  assert.deepEqual([await shows('#side'), await shows('#chat')], [false, true]);
  await bob.page.click('#back');
  await bob.page.waitForSelector('#list >> visible=true');
  assert.deepEqual([await shows('#side'), await shows('#chat')], [true, false]);
  await bob.open('Ann');
  await bob.page.goBack();
  await bob.page.waitForSelector('#list >> visible=true');
  assert.equal(new URL(bob.page.url()).hash, '');
});

step('the keyboard alone is enough', async () => {
  await ann.page.locator('#text').focus();
  await ann.page.keyboard.type('two');
  await ann.page.keyboard.press('Shift+Enter');
  await ann.page.keyboard.type('lines');
  await ann.page.keyboard.press('Enter');
  await ann.sees('two lines', 'delivered');
  assert.equal(await ann.message('two lines').locator('.text').textContent(), 'two\nlines');
  await ann.page.keyboard.press('Shift+Tab');
  await ann.page.keyboard.press('Enter');
  await ann.page.keyboard.press('End');
  await ann.page.waitForSelector('.menu .danger:focus');
  await ann.page.keyboard.press('Escape');
  await ann.page.waitForSelector('.message:last-child .more:focus');
  await ann.page.keyboard.press('ArrowUp');
  await ann.page.waitForSelector('.message:nth-last-child(2) .more:focus');
  await ann.page.keyboard.press('Escape');
  await ann.page.waitForSelector('.row:focus');
  assert.equal(await ann.page.locator('#nothing').isVisible(), true);
  await ann.page.keyboard.press('ArrowDown'); // the only row stays
  await ann.page.keyboard.press('Enter');
  await ann.page.waitForSelector('#text:focus');
  await bob.unread('Ann', 1);
});

step('a tab is closed and opened again: history there, unread right', async () => {
  await bob.open('Ann');
  await ann.sees('two lines', 'read');
  await bob.closeTab();
  await ann.write('Are you there?');
  await ann.write('Well, later');
  await ann.sees('Well, later', 'stored');
  await bob.openTab();
  await bob.goOn();
  await bob.unread('Ann', 2);
  assert.equal(await bob.page.title(), '(2) Curlew');
  await bob.open('Ann');
  await bob.sees('Well, later');
  await bob.sees('Hello, Bob');
  await ann.sees('Well, later', 'read');
  await bob.unread('Ann', 0);
});

step('a login that opens twice asks which tab to use', async () => {
  const first = bob.page;
  await bob.openTab();
  await bob.page.locator('#remembered button', { hasText: 'open in another tab' }).waitFor();
  await bob.goOn();
  await first.waitForSelector('#elsewhere[open]');
  await first.click('#take-over');
  await bob.page.waitForSelector('#elsewhere[open]');
  await bob.closeTab();
  bob.page = first;
  await ann.write('One of you will do');
  await bob.sees('One of you will do');
});

step('the engine is killed: the page says so, comes back, and what was written arrives once', async () => {
  await engine.kill();
  await Promise.all([ann, bob].map((p) => p.page.waitForSelector('#connection >> text=Reconnecting')));
  await ann.write('Written in the dark');
  await ann.sees('Written in the dark', 'sending');
  await bob.write('Me too');
  await bob.closeTab(); // what waits outlives its tab
  await engine.start();
  await ann.sees('Written in the dark', 'stored');
  await ann.page.waitForSelector('#connection', { state: 'hidden' });
  await bob.openTab();
  await bob.goOn();
  await ann.sees('Me too');
  await bob.open('Ann');
  await bob.sees('Written in the dark');
  await bob.sees('Me too', 'read');
  const seqs = await bob.seqs();
  assert.deepEqual(seqs, seqs.map((_, i) => i + 1), 'every seq once, in order');
});

step('a long conversation is read backwards to its first message, and the eye stays where it was', async () => {
  await bob.page.click('#back');
  const password = 'correct horse';
  const token = await engine.login('ann', password, 'helper');
  const me = await engine.call('GET', `/v1/users?handle=${bob.handle}`, null, token);
  for (let i = 1; i <= 120; i++) {
    await engine.call('POST', '/v1/messages', {
      client_msg_id: `history-${i}`, to: { user_id: me.id }, content: { text: `line ${i} of 120 ${'word '.repeat(i % 30)}` },
    }, token);
  }
  await bob.unread('Ann', 120);
  await ann.sees('line 120 of 120'); // of her other device
  await bob.page.reload();
  await bob.unread('Ann', 120);
  await bob.open('Ann');
  await bob.page.waitForSelector('.new');
  const log = bob.page.locator('#log');
  for (;;) {
    const [first] = await bob.seqs();
    if (first === 1) break;
    // Where the topmost visible message stands, before and after older ones come.
    const kept = await log.evaluate(async (e) => {
      const seen = () => [...e.querySelectorAll('.message')];
      e.scrollTop = 300;
      const mark = seen().find((m) => m.offsetTop > e.scrollTop);
      const before = mark.getBoundingClientRect().top;
      const count = seen().length;
      for (let i = 0; i < 200 && seen().length === count; i++) await new Promise((r) => { setTimeout(r, 25); });
      return { moved: Math.abs(mark.getBoundingClientRect().top - before), came: seen().length - count };
    });
    if (kept.came === 0) { // unless they came by themselves before they were counted
      const [now] = await bob.seqs();
      assert.ok(now < first, 'older messages came');
      continue;
    }
    assert.ok(kept.moved <= 1, `what was read moved by ${kept.moved} px`);
  }
  const seqs = await bob.seqs();
  assert.deepEqual(seqs, seqs.map((_, i) => i + 1), 'every seq once, in order');
  await bob.page.click('#latest');
  await bob.unread('Ann', 0);
  await ann.sees('line 120 of 120', 'read');
});

step('a token near its end is exchanged, over HTTP and on the socket', async () => {
  await ann.page.evaluate(() => {
    const logins = JSON.parse(localStorage.getItem('curlew.logins'));
    logins[0].accessUntil = 0;
    localStorage.setItem('curlew.logins', JSON.stringify(logins));
  });
  let asked, answered;
  const renewed = new Promise((resolve) => { answered = resolve; });
  await ann.through((frame) => {
    if (frame.data?.session_id) frame.data.expires_at = frame.data.server_time + 6_000;
    if (asked && frame.id === asked) answered(frame);
    return frame;
  }, (frame) => { if (frame.cmd === 'refresh') asked = frame.id; });
  const [exchanged] = await Promise.all([ann.page.waitForResponse(/auth\/refresh/u), ann.page.reload()]);
  assert.equal(exchanged.status(), 200);
  assert.equal((await renewed).error, undefined);
  await ann.write('Still here');
  await bob.sees('Still here');
});

step('a push that is lost is pulled: at the next one, or at the next heartbeat', async () => {
  await ann.through((frame) => (frame.push === 'message' && frame.data.content.text.startsWith('Lost') ? null : frame));
  await ann.page.reload();
  await ann.sees('Still here');
  await bob.write('Lost on the way');
  await bob.sees('Lost on the way', 'stored');
  await bob.write('Right behind it');
  await ann.sees('Lost on the way');
  await ann.sees('Right behind it');
  await bob.write('Lost at the end');
  await ann.sees('Lost at the end');
  const seqs = await ann.seqs();
  assert.deepEqual(seqs, seqs.map((_, i) => seqs[0] + i), 'every seq once, in order');
});

step('a message that is too long is not sent; a refused one says why and can be given up', async () => {
  await ann.page.fill('#text', 'x'.repeat(9000));
  await ann.page.waitForSelector('#too-long >> text=808 bytes too long');
  assert.equal(await ann.page.locator('#compose [type=submit]').isDisabled(), true);
  const [me, you] = await Promise.all([ann, bob].map((p) => p.remembered()));
  await engine.call('PUT', `/v1/blocks/${me.user.id}`, null, you.access);
  await ann.refused(engine, bob.handle);
  await ann.write('Unwelcome');
  await ann.sees('Unwelcome', 'failed');
  await ann.page.waitForSelector('.failure >> text=Not sent: the recipient has blocked you');
  await ann.page.click('.failure >> text=Discard');
  await ann.message('Unwelcome').waitFor({ state: 'detached' });
});

step('logging out forgets the login', async () => {
  await bob.page.click('#back');
  await bob.page.click('#me');
  await bob.page.click('#leave');
  await bob.page.waitForSelector('#signin:not([hidden])');
  assert.equal(await bob.page.locator('#remembered').isVisible(), false);
});

step('the consoles have nothing to say', () => {
  assert.deepEqual([...ann.faults, ...bob.faults], []);
});
