// Live rendering: debounced, one request at a time, the latest state only.

const PAUSE = 90; // debounce in ms
const MAX_DELAY = 300; // maximum delay in ms during continuous changes

export class LiveRender {
  #timer = 0;
  #first = 0;
  #running = false;
  #wanted = false;

  // state(): the edit, or null when there is none; shown(answer, ms, revision), failed(error), busy(bool)
  constructor(ask, state, { shown, failed, busy }) {
    Object.assign(this, { ask, state, shown, failed, busy });
    this.revision = 0;
  }

  // Whether something is being rendered, or will be.
  get pending() {
    return this.#running || this.#timer !== 0;
  }

  // Render, and wait until nothing is being rendered.
  async settled() {
    this.changed();
    while (this.pending) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  changed() {
    this.revision++;
    this.#wanted = true;
    if (this.#running) return; // runs again after the response
    const now = performance.now();
    if (!this.#timer) this.#first = now;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), Math.max(0, Math.min(PAUSE, this.#first + MAX_DELAY - now)));
  }

  async #run() {
    this.#timer = 0;
    if (this.#running || !this.#wanted) return;
    const state = this.state();
    this.#wanted = false;
    if (!state) return;
    const { revision } = this;
    this.#running = true;
    this.busy(true);
    const start = performance.now();
    try {
      const answer = await this.ask(state);
      if (state.photo === this.state()?.photo) await this.shown(answer, performance.now() - start, revision);
    } catch (error) {
      if (!this.#wanted) this.failed(error);
    } finally {
      this.#running = false;
      if (this.#wanted) this.#run();
      else this.busy(false);
    }
  }
}
