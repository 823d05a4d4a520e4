// Groups and their channels: three people, in a real browser against a real engine.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './browser.js';
import { Engine } from './engine.js';
import { Person } from './person.js';

const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
const engine = new Engine();
let browser, ann, bob, cleo, number;

// step is a test that goes on where the one before it ended.
const step = (name, run) => test(name, { timeout: 60_000 }, run);

before(async () => { [browser] = await Promise.all([launch(), engine.start()]); });

after(async () => {
  await browser?.close();
  await engine.kill();
});

step('a group is made with somebody in it; both talk, and it says who has read', async () => {
  [ann, bob, cleo] = await Promise.all([Person.arrive(browser, engine.url), Person.arrive(browser, engine.url, phone), Person.arrive(browser, engine.url)]);
  await Promise.all([[ann, 'ann', 'Ann'], [bob, 'bob', 'Bob'], [cleo, 'cleo', 'Cleo']].map(([p, handle, name]) => p.register(handle, 'correct horse', name)));
  await ann.page.click('#groups');
  await ann.page.fill('dialog [name=name]', 'Ferry crew');
  await ann.page.fill('dialog fieldset [aria-label="Exact handle"]', 'bob');
  await ann.page.press('dialog fieldset [aria-label="Exact handle"]', 'Enter');
  await ann.page.waitForSelector('dialog .picks input:checked');
  await ann.page.selectOption('dialog [name=join_policy]', 'request');
  await ann.page.click('dialog >> text=Create the group');
  await ann.notice('You created the group “Ferry crew” with Bob');
  await bob.open('Ferry crew');
  await bob.notice('Ann created the group “Ferry crew” with you');
  await ann.write('All aboard');
  await bob.sees('All aboard');
  await bob.page.waitForSelector('.message .sender >> text=Ann');
  await ann.sees('All aboard', 'read');
  await ann.page.waitForSelector('.count:text-is("1/1")');
  await bob.page.locator('#text').pressSequentially('ay');
  await ann.page.waitForSelector('#peer-handle.typing >> text=Bob types');
  await bob.write('aye, @ann');
  await ann.page.waitForSelector('.mention.me');
});

step('somebody asks to join by the group’s number, is let in, and sees what is said from there on', async () => {
  await ann.page.click('#peer');
  number = await ann.page.textContent('#group-number');
  await cleo.page.click('#groups');
  await cleo.page.fill('#join-group [aria-label="Number of the group"]', number);
  await cleo.page.fill('#join-group [aria-label="A word to its admins"]', 'the new cook');
  await cleo.page.click('#join-group >> role=button[name=Join]');
  await cleo.page.waitForSelector('#join-group >> text=An admin decides');
  await cleo.closePanel();
  await ann.closePanel();
  await ann.page.click('#peer');
  await ann.page.waitForSelector('dialog >> text=the new cook');
  await ann.page.click('dialog >> role=button[name="Let in"]');
  await ann.page.waitForSelector('dialog [aria-label=Members] >> text=Cleo');
  await ann.closePanel();
  await bob.notice('Ann added Cleo');
  await cleo.open('Ferry crew');
  await cleo.notice('Ann added you');
  assert.equal(await cleo.message('All aboard').count(), 0, 'what was said before is not shown');
  await ann.page.fill('#text', 'Dinner, @a');
  await ann.page.press('#text', 'l');
  await ann.page.waitForSelector('#mentions >> text=Everybody');
  await ann.page.press('#text', 'Enter');
  await bob.page.click('#back');
  await ann.page.press('#text', 'Enter');
  await bob.page.waitForSelector('.row .icon-at');
  await cleo.page.waitForSelector('.mention.me >> text=@all');
  await ann.page.waitForSelector('.count:text-is("1/2")');
  await ann.page.click('.message:has-text("Dinner") .count');
  await ann.page.waitForSelector('dialog [data-state=read] >> text=Cleo');
  await ann.page.waitForSelector('dialog [data-state=delivered] >> text=Bob');
  await ann.closePanel();
  await bob.open('Ferry crew');
  await ann.page.waitForSelector('.message:has-text("Dinner") .count:text-is("2/2")');
  await bob.page.click('#back');
  await bob.page.locator('.row .icon-at').waitFor({ state: 'detached' });
  await bob.open('Ferry crew');
});

step('channels stand under their group; a private one is for those who were chosen', async () => {
  await ann.page.click('#peer');
  await ann.page.click('dialog >> text=New channel');
  await ann.page.fill('dialog:last-of-type [name=name]', 'engine');
  await ann.page.click('dialog >> text=Create the channel');
  await ann.notice('You created the channel “engine”');
  await ann.write('Oil is low');
  for (const p of [bob, cleo]) await p.page.locator('.head', { hasText: 'Ferry crew' }).waitFor({ state: 'attached' });
  await cleo.unread('engine', 1);
  await ann.page.click('#peer');
  await ann.page.click('dialog >> text=New channel');
  await ann.page.fill('dialog:last-of-type [name=name]', 'galley');
  await ann.page.check('dialog [name=private]');
  await ann.page.click('dialog .picks >> text=Cleo');
  await ann.page.click('dialog >> text=Create the channel');
  await ann.notice('You created the channel “galley”');
  await ann.write('Fish today');
  await cleo.unread('galley', 1);
  await cleo.open('galley');
  await cleo.sees('Fish today');
  await bob.unread('engine', 1);
  assert.equal(await bob.row('galley').count(), 0);
});

step('roles, muting, a recall by an admin; who is removed or has left sees that they are', async () => {
  await cleo.open('General');
  await cleo.write('Soup is ready');
  await ann.open('General');
  await ann.page.click('#peer');
  await ann.member('Bob', 'Make an admin');
  await ann.page.waitForSelector('dialog [aria-label=Members] >> text=admin');
  await ann.member('Cleo', 'Mute');
  await ann.closePanel();
  await ann.notice('You made Bob an admin');
  await cleo.page.waitForSelector('#silent >> text=An admin has muted you');
  assert.equal(await cleo.page.locator('#compose').isVisible(), false);
  await bob.act('Soup is ready', 'Take back');
  await cleo.page.waitForSelector('.message >> text=Message taken back');
  await bob.page.click('#peer');
  await bob.member('Cleo', 'Let write again');
  await bob.closePanel();
  await cleo.page.waitForSelector('#compose >> visible=true');
  await cleo.write('Thank you');
  await bob.sees('Thank you');
  await bob.page.click('#peer');
  await bob.page.click('dialog >> text=Settings of the group');
  await bob.page.fill('dialog details [name=name]', 'Night ferry');
  await bob.page.click('dialog details >> text=Save');
  await cleo.page.waitForSelector('.head >> text=Night ferry');
  await bob.member('Cleo', 'Remove from the group');
  await bob.page.click('dialog.small >> role=button[name=Remove]');
  await cleo.page.waitForSelector('#silent >> text=no longer in this conversation');
  await cleo.notice('Bob removed you');
  await bob.page.locator('dialog [aria-label=Members] bdi:text-is("Cleo")').waitFor({ state: 'detached' });
  await bob.closePanel();
  await ann.write('Who cooks now?');
  await bob.sees('Who cooks now?');
  assert.equal(await cleo.message('Who cooks now?').count(), 0);
  await bob.page.click('#peer');
  await bob.page.click('dialog >> role=button[name=Invite]');
  await bob.page.fill('dialog fieldset [aria-label="Exact handle"]', 'cleo');
  await bob.page.press('dialog fieldset [aria-label="Exact handle"]', 'Enter');
  await bob.page.waitForSelector('dialog .picks input:checked');
  await bob.page.click('dialog:last-of-type .buttons >> text=Invite');
  await cleo.notice('Bob added you');
  await bob.closePanel();
  await cleo.write('Back in the galley');
  await bob.sees('Back in the galley');
  assert.equal(await cleo.message('Who cooks now?').count(), 0, 'what was said meanwhile stays unseen');
});

step('a group is handed over and left; its last owner dissolves it', async () => {
  await ann.page.click('#peer');
  await ann.member('Bob', 'Make the owner');
  await ann.page.click('dialog.small >> text=Make the owner >> nth=-1');
  await ann.page.click('dialog >> role=button[name="Leave the group"]');
  await ann.page.click('dialog.small >> role=button[name="Leave the group"]');
  await ann.page.waitForSelector('#silent >> text=no longer in this conversation');
  await bob.notice('Ann left');
  await bob.page.click('#peer');
  await bob.page.click('dialog >> role=button[name="Dissolve the group"]');
  await bob.page.click('dialog.small >> role=button[name="Dissolve the group"]');
  await bob.notice('You dissolved the group');
  for (const p of [bob, cleo]) await p.page.waitForSelector('#silent >> text=no longer in this conversation');
});

step('the consoles have nothing to say', () => {
  assert.deepEqual([...ann.faults, ...bob.faults, ...cleo.faults], []);
});
