// Live rendering: debounced, with one request at a time, always of the latest state.

const DEBOUNCE = 90; // debounce in ms
const MAX_DELAY = 300; // maximum delay in ms during continuous changes

// A time in milliseconds as text, from a second on in seconds.
export const formatTime = (milliseconds) =>
  milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;

export class LiveRender {
  #timer = 0;
  #firstChange = 0;
  #running = false;
  #dirty = false;

  // render(state): promise of a result; state(): what to render, or null;
  // onResult(result, milliseconds, revision), onError(error), onBusy(boolean)
  constructor(render, state, { onResult, onError = () => {}, onBusy = () => {} }) {
    Object.assign(this, { render, state, onResult, onError, onBusy });
    this.revision = 0;
  }

  // Whether something is being rendered, or will be.
  get pending() {
    return this.#running || this.#timer !== 0;
  }

  // Render, and wait until nothing is being rendered.
  async settled() {
    this.schedule();
    while (this.pending) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  // Render soon: the state has changed.
  schedule() {
    this.revision++;
    this.#dirty = true;
    if (this.#running) return; // runs again after the response
    const now = performance.now();
    if (!this.#timer) this.#firstChange = now;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), Math.max(0, Math.min(DEBOUNCE, this.#firstChange + MAX_DELAY - now)));
  }

  async #run() {
    this.#timer = 0;
    if (this.#running || !this.#dirty) return;
    const state = this.state();
    this.#dirty = false;
    if (!state) return;
    const { revision } = this;
    this.#running = true;
    this.onBusy(true);
    const start = performance.now();
    try {
      const result = await this.render(state);
      if (state.photo === this.state()?.photo) await this.onResult(result, performance.now() - start, revision);
    } catch (error) {
      if (!this.#dirty) this.onError(error);
    } finally {
      this.#running = false;
      if (this.#dirty) this.#run();
      else this.onBusy(false);
    }
  }
}
