// Where one writes. What is written stays a draft of its conversation, in this tab, until
// it is sent.

import { read, write } from './storage.js';

const bytes = new TextEncoder();
// Something to see, as the server wants it: not only spaces and what is invisible.
const visible = /[^\s\p{Cc}\p{Default_Ignorable_Code_Point}]/u;

export class Compose {
  #store;
  #outgoing;
  #sent;
  #key;
  #c = null;
  #form = document.getElementById('compose');
  #text = document.getElementById('text');
  #note = document.getElementById('too-long');
  #send = this.#form.querySelector('button');

  constructor(store, outgoing, device, sent) {
    this.#store = store;
    this.#outgoing = outgoing;
    this.#sent = sent;
    this.#key = (c) => `curlew.draft.${device}.${c.id}`;
    this.#text.addEventListener('input', () => this.#changed());
    this.#text.addEventListener('keydown', (event) => this.#pressed(event));
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  show(c) {
    if (c === this.#c) return;
    this.#c = c;
    this.#text.value = c ? read(sessionStorage, this.#key(c), '') : '';
    this.#changed();
  }

  focus() {
    // On a touch screen the keyboard would cover what was opened to be read.
    if (matchMedia('(hover: hover)').matches) this.#text.focus();
    else document.getElementById('log').focus();
  }

  #pressed(event) {
    // Enter may take a word of an input method; some browsers say so by 229 alone.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.#submit();
  }

  #submit() {
    if (this.#send.disabled) return;
    if (!this.#outgoing.send(this.#c.peer, this.#text.value.trim())) {
      this.#note.textContent = 'Too much is waiting to be sent. Try again once it is through.';
      return;
    }
    this.#text.value = '';
    this.#changed();
    this.#sent();
    if (matchMedia('(hover: hover)').matches) this.#text.focus();
  }

  #changed() {
    const text = this.#text.value.trim();
    const over = bytes.encode(text).length - this.#store.limits.max_text_bytes;
    this.#note.textContent = over > 0 ? `${over} bytes too long for one message.` : '';
    this.#send.disabled = over > 0 || !visible.test(text);
    if (this.#c) write(sessionStorage, this.#key(this.#c), this.#text.value || null);
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight + 2}px`; // and its border
  }
}
