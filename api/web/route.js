// Which conversation is open: the fragment says it, so that a reload and a phone's back
// button do what they say.

export class Router {
  open = null;
  #store;
  #shown;

  // shown is called with the conversation that is open now, or null, and the ID of the
  // one that was left for the list.
  constructor(store, catchUp, shown) {
    this.#store = store;
    this.#shown = shown;
    window.addEventListener('popstate', () => this.route());
    // The fragment may name what the list did not bring.
    store.on('synced', async () => {
      const id = location.hash.slice(1);
      if (!id || this.open?.id === id) return;
      await catchUp.know(id);
      this.route();
    });
    document.getElementById('back').addEventListener('click', () => this.leave());
    document.getElementById('open').addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && !event.isComposing) this.leave();
    });
  }

  go(id) {
    if (location.hash) history.replaceState({ deep: history.state?.deep }, '', `#${id}`);
    else history.pushState({ deep: true }, '', `#${id}`);
    this.route();
  }

  leave() {
    if (history.state?.deep) {
      history.back();
    } else {
      history.replaceState(null, '', location.pathname);
      this.route();
    }
  }

  route() {
    const c = this.#store.get(location.hash.slice(1)) ?? null;
    const left = c ? '' : this.open?.id ?? '';
    this.open = c;
    document.getElementById('app').classList.toggle('chatting', c !== null);
    this.#shown(c, left);
  }
}
