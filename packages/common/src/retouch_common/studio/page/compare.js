// Before and after in one image, with a draggable divider.

export class Compare {
  #held = false;

  // handle: what is dragged, by default the whole figure
  constructor(figure, divider, before, handle = figure) {
    Object.assign(this, { figure, divider, before });
    this.share = 0;
    handle.addEventListener("pointerdown", (event) => {
      if (figure.dataset.state === "empty") return;
      event.preventDefault();
      handle.setPointerCapture(event.pointerId);
      divider.focus({ preventScroll: true });
      this.#follow(event);
    });
    handle.addEventListener("pointermove", (event) => {
      if (handle.hasPointerCapture(event.pointerId)) this.#follow(event);
    });
    divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, Home: -100, End: 100 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.set(this.share + step);
    });
    this.set(0);
  }

  #follow(event) {
    const box = this.figure.getBoundingClientRect();
    this.set((100 * (event.clientX - box.left)) / box.width);
  }

  // Percentage of the width that shows the face before the edit.
  set(share) {
    this.share = Math.min(100, Math.max(0, share));
    this.#show();
  }

  // Show the whole face before the edit while a key is held.
  hold(held) {
    this.#held = held;
    this.#show();
  }

  #show() {
    const share = this.#held ? 100 : this.share;
    this.before.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
    this.divider.style.left = `${share}%`;
    this.divider.setAttribute("aria-valuenow", String(Math.round(share)));
    this.figure.classList.toggle("split", share > 0);
  }
}
