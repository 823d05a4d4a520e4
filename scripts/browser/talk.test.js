// What one does with messages, conversations and people: two people and a second device,
// in a real browser against a real engine.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './browser.js';
import { Engine } from './engine.js';
import { Person } from './person.js';

const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
const password = 'correct horse';
const engine = new Engine();
let browser, ann, bob, second;

// step is a test that goes on where the one before it ended.
const step = (name, run) => test(name, { timeout: 60_000 }, run);

before(async () => { [browser] = await Promise.all([launch(), engine.start()]); });

after(async () => {
  await browser?.close();
  await engine.kill();
});

step('a contact is asked for, accepted and given a name; who is online is shown, and who types', async () => {
  [ann, bob] = await Promise.all([Person.arrive(browser, engine.url), Person.arrive(browser, engine.url, phone)]);
  await Promise.all([ann.register('ann', password, 'Ann'), bob.register('bob', password, 'Bob')]);
  await ann.page.click('#contacts');
  await ann.page.fill('dialog [aria-label="Exact handle"]', 'bobby');
  await ann.page.press('dialog [aria-label="Exact handle"]', 'Enter');
  await ann.page.waitForSelector('dialog .error >> text=Nobody is called bobby');
  await ann.page.fill('dialog [aria-label="Exact handle"]', '@bob');
  await ann.page.fill('dialog [aria-label="A word to them"]', 'from the ferry');
  await ann.page.press('dialog [aria-label="Exact handle"]', 'Enter');
  await ann.page.waitForSelector('dialog >> text=Asked by you');
  await bob.page.waitForSelector('#contacts .badge:text-is("1")');
  await bob.page.click('#contacts');
  await bob.page.waitForSelector('dialog >> text=from the ferry');
  await bob.page.click('dialog >> role=button[name=Accept]');
  await bob.page.waitForSelector('dialog .people:below(:text("Your contacts")) >> text=Ann');
  await bob.closePanel();
  await ann.page.click('dialog >> role=button[name=About]');
  await ann.page.fill('[aria-label="Name that only you see"]', 'Bob the pilot');
  await ann.page.click('dialog >> role=button[name=Save]');
  await ann.page.waitForSelector('dialog h2:text-is("Bob the pilot")');
  await ann.page.click('dialog:last-of-type >> role=button[name=Chat]');
  await ann.closePanel();
  await ann.page.waitForSelector('#peer-handle >> text=online');
  await ann.write('High tide at seven');
  await bob.unread('Ann', 1);
  await bob.open('Ann');
  await bob.page.waitForSelector('#peer-handle >> text=online');
  await bob.page.locator('#text').pressSequentially('and l');
  await ann.page.waitForSelector('#peer-handle.typing >> text=types');
  await ann.page.waitForSelector('.row .line.typing');
  await bob.write('and low tide at one');
  await ann.page.waitForSelector('#peer-handle:not(.typing)');
  await ann.sees('and low tide at one');
  await ann.row('Bob the pilot').waitFor();
});

step('a message is answered with a quote, mentions, is reacted to, and forwarded', async () => {
  await ann.act('and low tide at one', 'Reply');
  await ann.page.locator('#text').pressSequentially('thank you, @b');
  await ann.page.waitForSelector('#mentions [role=option] >> text=@bob');
  await ann.page.press('#text', 'Enter');
  assert.equal(await ann.page.inputValue('#text'), 'thank you, @bob ');
  await ann.page.press('#text', 'Enter');
  await bob.sees('thank you, @bob');
  await bob.page.waitForSelector('.message:has-text("thank you") .quote >> text=and low tide at one');
  await bob.page.waitForSelector('.message:has-text("thank you") .mention.me');
  await bob.act('thank you', 'React with 👍');
  await ann.page.waitForSelector('.reactions button[aria-pressed=false][aria-label^="👍, 1"]');
  await ann.page.click('.reactions button');
  await bob.page.waitForSelector('.reactions button[aria-pressed=true][aria-label^="👍, 2"]');
  await bob.act('thank you', 'Who reacted');
  await bob.page.waitForSelector('dialog .people >> text=You');
  await bob.page.waitForSelector('dialog .people >> text=Ann');
  await bob.closePanel();
  await bob.page.click('.reactions button');
  await ann.page.waitForSelector('.reactions button[aria-pressed=true][aria-label^="👍, 1"]');
  await bob.act('High tide', 'Forward…');
  await bob.page.click('dialog .pick >> text=Ann');
  await ann.page.waitForSelector('.message:has(.forwarded):has-text("High tide at seven")');
  await ann.page.waitForSelector('.forwarded >> text=Ann');
});

step('a message is edited, and taken back; what is seen late is refused; earlier versions are there', async () => {
  await ann.write('See you at the peer');
  await bob.sees('See you at the peer');
  await ann.act('See you at the peer', 'Edit');
  await ann.write('See you at the pier');
  await bob.page.waitForSelector('.message:has-text("See you at the pier") .edited >> visible=true');
  // An edit of what another device has edited meanwhile.
  await ann.act('See you at the pier', 'Edit');
  const token = await engine.login('ann', password, 'helper');
  const { seq, conversation } = await ann.place('See you at the pier');
  const edit = (text, id) => engine.call('POST', `/v1/conversations/${conversation}/messages/${seq}/changes?wait=stored`, { client_change_id: id, kind: 'edit', content: { text } }, token);
  await edit('See you on the pier', 'elsewhere-1');
  await ann.sees('See you on the pier');
  await ann.write('See you under the pier');
  await ann.page.waitForSelector('#notify >> text=edited elsewhere meanwhile');
  assert.equal(await ann.page.inputValue('#text'), 'See you under the pier');
  await ann.page.press('#text', 'Escape');
  await ann.sees('See you on the pier');
  await bob.act('See you on the pier', 'Earlier versions');
  await bob.page.waitForSelector('dialog .versions >> text=See you at the peer');
  assert.equal(await bob.page.locator('dialog .versions li').count(), 3);
  await bob.closePanel();
  await bob.act('See you on the pier', 'Reply');
  await bob.write('Fine');
  await ann.page.waitForSelector('.quote >> text=See you on the pier');
  await ann.act('See you on the pier', 'Take back');
  await bob.page.waitForSelector(`.message[data-seq="${seq}"] >> text=Message taken back`);
  await bob.page.waitForSelector('.quote >> text=Message taken back');
  await bob.act('Fine', 'Delete for me');
  await bob.page.click('dialog >> role=button[name="Delete for me"]');
  await bob.page.locator('.message:has-text("Fine")').waitFor({ state: 'detached' });
  await ann.sees('Fine');
});

step('a change, or a deletion elsewhere, whose push is lost is pulled', async () => {
  let lossy = true;
  await bob.through((frame) => (lossy && ['changed', 'deleted'].includes(frame.push) ? null : frame));
  await bob.page.reload();
  await ann.write('Bring the map');
  await bob.sees('Bring the map');
  await ann.act('Bring the map', 'Edit');
  await ann.write('Bring the chart');
  await bob.sees('Bring the chart');
  await ann.act('Bring the chart', 'React with 👍');
  await bob.page.waitForSelector('.message:has-text("Bring the chart") .reactions button[aria-pressed=false]');
  const { seq, conversation } = await bob.place('Bring the chart');
  await ann.act('Bring the chart', 'Take back');
  await bob.page.waitForSelector(`.message[data-seq="${seq}"] >> text=Message taken back`);
  const token = await engine.login('bob', password, 'helper');
  await engine.call('POST', `/v1/conversations/${conversation}/deletions`, { seqs: [seq] }, token);
  await bob.page.locator(`.message[data-seq="${seq}"]`).waitFor({ state: 'detached' });
  await ann.page.waitForSelector(`.message[data-seq="${seq}"]`);
  lossy = false;
});

step('what is not text is shown as cards, and nothing is loaded from elsewhere', async () => {
  const foreign = [];
  ann.page.on('request', (r) => { if (new URL(r.url()).origin !== new URL(engine.url).origin) foreign.push(r.url()); });
  const token = await engine.login('bob', password, 'helper');
  const file = (name, mime) => ({ url: `https://files.example/${name}`, mime, size: 482113, sha256: 'a'.repeat(64), name });
  const all = [
    ['image', { ...file('tide.png', 'image/png'), width: 1200, height: 800, thumbnail: { url: 'https://files.example/small.png' } }, 'tide.png'],
    ['file', file('tables.pdf', 'application/pdf'), 'tables.pdf'], ['audio', { ...file('horn.ogg', 'audio/ogg'), duration_ms: 83_000 }, '1:23'],
    ['video', file('spray.mp4', 'video/mp4'), 'spray.mp4'], ['location', { latitude: 53.55, longitude: 8.1, name: 'Mudflat' }, 'Mudflat'],
    ['custom', { sticker: '<img src=x onerror=alert(1)>' }, 'Message of another app'],
  ];
  for (const [type, content] of all) await engine.call('POST', '/v1/messages', { client_msg_id: `content-${type}`, to: { handle: 'ann' }, type, content }, token);
  for (const [, , text] of all) await ann.page.waitForSelector(`.message >> text=${text}`);
  assert.deepEqual(await ann.page.$$eval('.card-content a', (links) => links.map((a) => [new URL(a.href).host, a.target, a.rel, a.referrerPolicy])),
    ['files.example', 'files.example', 'files.example', 'files.example', 'www.openstreetmap.org'].map((host) => [host, '_blank', 'noopener noreferrer', 'no-referrer']));
  await ann.page.click('.custom summary');
  await ann.page.waitForSelector('.custom pre >> text=onerror');
  assert.equal(await ann.page.locator('#messages img').count(), 0);
  assert.deepEqual(foreign, []);
});

step('a second device has the same settings and draft, is listed, and is logged out from the first', async () => {
  second = await Person.arrive(browser, engine.url);
  await second.login('ann', password);
  await ann.setting('Pin to the top');
  await second.page.waitForSelector('.row .icon-pin');
  await ann.setting('Mute');
  await second.page.waitForSelector('.row .icon-mute');
  await ann.setting('Unmute');
  await second.page.locator('.row .icon-mute').waitFor({ state: 'detached' });
  await ann.page.fill('#text', 'Begun here');
  await second.page.waitForSelector('.row .line.draft >> text=Begun here');
  await second.open('Bob the pilot');
  assert.equal(await second.page.inputValue('#text'), 'Begun here');
  await second.write('Begun here, ended there');
  await ann.sees('Begun here, ended there');
  await ann.page.waitForFunction(() => document.getElementById('text').value === '');
  await ann.page.press('#text', 'Escape');
  await second.setting('Mark as unread');
  await ann.page.waitForSelector('.row.unread .badge');
  await ann.open('Bob the pilot');
  await second.page.waitForSelector('.row:not(.unread)');
  await ann.setting('Hide from the list');
  await second.page.waitForSelector('#list-empty:not([hidden])');
  await bob.write('Back again');
  await second.unread('Bob the pilot', 1);
  await ann.page.click('#me');
  await ann.page.fill('dialog [name=nickname]', 'Ann of the ferry');
  await ann.page.fill('dialog [name=avatar]', new URL('/icon.svg', engine.url).href);
  await ann.page.click('dialog >> role=button[name=Save]');
  await ann.page.waitForSelector('#me img');
  const { device } = await second.remembered();
  await ann.page.click(`[data-device="${device}"] button`);
  await ann.page.click('dialog.small >> role=button[name="Log out"]');
  await ann.page.locator(`[data-device="${device}"]`).waitFor({ state: 'detached' });
  await second.page.waitForSelector('#signin-error >> text=This login has ended');
  await ann.closePanel();
  await ann.open('Bob the pilot');
  await ann.write('New name');
  await bob.row('Ann of the ferry').waitFor({ state: 'attached' });
});

step('somebody is blocked and let back in, a contact is removed, a conversation is deleted', async () => {
  await bob.page.click('#peer');
  await bob.page.click('dialog >> role=button[name=Block]');
  await bob.page.click('dialog.small >> role=button[name=Block]');
  await bob.page.waitForSelector('dialog >> role=button[name=Unblock]');
  await ann.refused(engine, 'bob');
  await ann.write('Are you cross?');
  await ann.page.waitForSelector('.failure >> text=Not sent: the recipient has blocked you');
  await bob.closePanel();
  await bob.page.click('#back');
  await bob.page.click('#me');
  await bob.page.click('dialog >> role=button[name=Unblock]');
  await bob.page.locator('dialog >> role=button[name=Unblock]').waitFor({ state: 'detached' });
  await bob.closePanel();
  await ann.refused(engine, 'bob', false);
  await ann.page.click('.failure >> text=Discard');
  await ann.page.click('#peer');
  await ann.page.click('dialog >> role=button[name="Remove from contacts"]');
  await ann.page.click('dialog.small >> role=button[name=Remove]');
  await ann.page.waitForSelector('dialog >> role=button[name="Ask to be contacts"]');
  await ann.closePanel();
  await ann.setting('Delete the conversation');
  await ann.page.click('dialog.small >> role=button[name=Delete]');
  await ann.page.waitForSelector('#list-empty:not([hidden])');
  await ann.startChat('bob');
  await ann.write('From the beginning');
  await ann.sees('From the beginning', 'delivered');
  await bob.page.waitForSelector('.row .line >> text=From the beginning');
  assert.equal(await ann.message('New name').count(), 0, 'what was deleted is not shown');
});

step('the consoles have nothing to say', () => {
  assert.deepEqual([...ann.faults, ...bob.faults, ...second.faults], []);
});
