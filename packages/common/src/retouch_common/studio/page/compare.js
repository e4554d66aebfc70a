// Before and after in one image, with a draggable divider.

export class Compare {
  #held = false; // whether only the image before is shown

  // handle: element that starts a drag, by default the whole figure
  constructor(figure, divider, before, handle = figure) {
    Object.assign(this, { figure, divider, before });
    this.position = 0; // of the divider, in percent of the width
    handle.addEventListener("pointerdown", (event) => {
      if (figure.dataset.state === "empty") return;
      event.preventDefault();
      handle.setPointerCapture(event.pointerId);
      divider.focus({ preventScroll: true });
      this.#drag(event);
    });
    handle.addEventListener("pointermove", (event) => {
      if (handle.hasPointerCapture(event.pointerId)) this.#drag(event);
    });
    divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, Home: -100, End: 100 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.set(this.position + step);
    });
    this.set(0);
  }

  #drag(event) {
    const box = this.figure.getBoundingClientRect();
    this.set((100 * (event.clientX - box.left)) / box.width);
  }

  set(position) {
    this.position = Math.min(100, Math.max(0, position));
    this.#update();
  }

  // Show the whole image before, while a key is held.
  hold(held) {
    this.#held = held;
    this.#update();
  }

  #update() {
    const position = this.#held ? 100 : this.position;
    this.before.style.clipPath = `inset(0 ${100 - position}% 0 0)`;
    this.divider.style.left = `${position}%`;
    this.divider.setAttribute("aria-valuenow", String(Math.round(position)));
    this.figure.classList.toggle("split", position > 0);
  }
}
