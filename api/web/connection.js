// The line that says that there is no connection, and when one is tried again. A loss
// that heals at once is not worth a word.

const patience = 700; // ms

export class ConnectionView {
  #box = document.getElementById('connection');
  #text = document.getElementById('connection-text');
  #retry = document.getElementById('retry');
  #timer;
  #waiting;
  #ever = false;

  constructor(retry) {
    this.#retry.addEventListener('click', retry);
  }

  up() {
    this.#ever = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#waiting);
    this.#box.hidden = true;
  }

  // down says so soon; retryAt is when the next attempt begins, 0: now.
  down(retryAt) {
    clearTimeout(this.#waiting);
    const wait = retryAt - Date.now();
    this.#text.textContent = `${navigator.onLine ? '' : 'Offline. '}${this.#ever ? 'Reconnecting…' : 'Connecting…'}`;
    this.#retry.hidden = wait < 2_000;
    if (wait > 0) this.#waiting = setTimeout(() => { this.#retry.hidden = true; }, wait);
    if (!this.#box.hidden) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { this.#box.hidden = false; }, patience);
  }
}
