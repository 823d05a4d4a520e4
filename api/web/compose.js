// Where one writes: a new message, a reply, or another text for one that was sent.

import { say } from './dom.js';
import { quoteText } from './format.js';
import { failing } from './panel.js';

const bytes = new TextEncoder();
const idle = 5_000; // ms without a key after which one types no more
// Something to see, as the server wants it: not only spaces and what is invisible.
const visible = /[^\s\p{Cc}\p{Default_Ignorable_Code_Point}]/u;

export class Compose {
  #parts; // {store, outgoing, drafts, typing, changes, groups, mention, sent}
  #c = null;
  #reply = null; // the message replied to
  #edit = null; // the message edited
  #busy = false;
  #idle = 0;
  #form = document.getElementById('compose');
  #text = document.getElementById('text');
  #note = document.getElementById('too-long');
  #about = document.getElementById('about');
  #silent = document.getElementById('silent');
  #send = this.#form.querySelector('[type=submit]');

  constructor(parts) {
    this.#parts = parts;
    this.#text.addEventListener('input', () => this.#typed());
    this.#text.addEventListener('keydown', (event) => this.#pressed(event));
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    document.getElementById('about-end').addEventListener('click', () => this.#end());
    parts.store.on('conversation', (changed) => { if (changed.has(this.#c)) this.#look(); });
    parts.store.on('group', () => this.#look());
    setInterval(() => this.#look(), 30_000); // who is muted for a while may write again
  }

  show(c) {
    if (c === this.#c) return;
    const { drafts, typing, mention } = this.#parts;
    if (this.#c) {
      this.#leave();
      drafts.leave(this.#c);
      typing.end();
    }
    this.#c = c;
    mention.show(c);
    this.#text.value = c ? drafts.open(c) : '';
    this.#look();
    this.#changed();
  }

  focus() {
    // On a touch screen the keyboard would cover what was opened to be read.
    if (matchMedia('(hover: hover)').matches && !this.#form.hidden) this.#text.focus();
    else document.getElementById('log').focus();
  }

  reply(m) {
    this.#leave();
    this.#reply = m;
    this.#mode(`Reply to ${this.#parts.store.mine(m) ? 'yourself' : this.#parts.store.people.called(m.sender)}`, quoteText({ type: m.type, text: m.content.text ?? m.content.name }));
  }

  edit(m) {
    this.#leave();
    this.#edit = m;
    this.#text.value = m.content.text;
    this.#changed();
    this.#mode('Edit the message', quoteText({ type: m.type, text: m.content.text }));
  }

  #mode(title, text) {
    say(document.getElementById('about-title'), title);
    say(document.getElementById('about-text'), text.slice(0, 200));
    this.#about.hidden = false;
    this.#text.focus();
  }

  // leave goes back to a new message, with what was begun of it.
  #leave() {
    if (this.#edit) this.#text.value = this.#parts.drafts.open(this.#c);
    this.#reply = this.#edit = null;
    this.#about.hidden = true;
  }

  #end() {
    this.#leave();
    this.#changed();
    this.#text.focus();
  }

  // look: what one may do here may have changed, and another device may have written.
  #look() {
    const c = this.#c;
    if (!c) return;
    const silent = this.#parts.groups.silent(c);
    this.#form.hidden = Boolean(silent);
    this.#silent.hidden = !silent;
    say(this.#silent, silent);
    if (silent) this.#parts.typing.end();
    const elsewhere = this.#edit ? undefined : this.#parts.drafts.adopt(c, this.#text.value);
    if (elsewhere === undefined) return;
    this.#text.value = elsewhere;
    this.#changed();
  }

  #pressed(event) {
    if (this.#parts.mention.pressed(event)) return;
    if (event.key === 'Escape' && !this.#about.hidden) {
      event.stopPropagation(); // which would leave the conversation
      this.#end();
    }
    // Enter may take a word of an input method; some browsers say so by 229 alone.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.#submit();
  }

  async #submit() {
    if (this.#send.disabled) return;
    const { outgoing, drafts, typing, mention, sent } = this.#parts;
    const text = this.#text.value.trim();
    if (this.#edit) {
      await this.#revise(text);
      return;
    }
    const c = this.#c;
    const quote = this.#reply && quoteOf(this.#reply);
    const written = this.#text.value;
    this.#busy = this.#send.disabled = text.includes('@'); // members may have to be asked for
    const mentions = this.#busy ? await mention.of(text) : {};
    this.#busy = false;
    if (c !== this.#c) { // what was written stays a draft
      this.#changed();
      return;
    }
    if (!outgoing.send(c, { type: 'text', content: { text }, ...(quote && { reply_to: quote }), ...mentions })) {
      this.#note.textContent = 'Too much is waiting to be sent. Try again once it is through.';
      return;
    }
    const more = this.#text.value.startsWith(written) ? this.#text.value.slice(written.length) : '';
    this.#text.value = more;
    this.#leave();
    drafts.sent(c, more);
    typing.end();
    this.#changed();
    sent();
    if (matchMedia('(hover: hover)').matches) this.#text.focus();
  }

  // revise keeps what was written where the edit is refused.
  async #revise(text) {
    const m = this.#edit;
    this.#busy = true;
    this.#changed();
    const done = text === m.content.text || await failing(async () => {
      await this.#parts.changes.edit(m, text);
      return true;
    });
    this.#busy = false;
    if (done && this.#edit === m) this.#end();
    else this.#changed();
  }

  #typed() {
    const { drafts, typing, mention } = this.#parts;
    this.#changed();
    mention.typed();
    if (this.#edit) return;
    drafts.keep(this.#c, this.#text.value);
    clearTimeout(this.#idle);
    if (!visible.test(this.#text.value)) {
      typing.end();
      return;
    }
    typing.say(this.#c);
    this.#idle = setTimeout(() => typing.end(), idle);
  }

  #changed() {
    const text = this.#text.value.trim();
    const over = bytes.encode(text).length - this.#parts.store.limits.max_text_bytes;
    this.#note.textContent = over > 0 ? `${over} bytes too long for one message.` : '';
    this.#send.disabled = this.#busy || over > 0 || !visible.test(text);
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight + 2}px`; // and its border
  }
}

// quoteOf is a message as a reply to it carries it, until the server's own is known.
const quoteOf = ({ seq, sender, type, content }) => ({ seq, sender, type, text: (content.text ?? content.name ?? '').slice(0, 100) });
