// Where the photo is on the stage: scale (screen pixels per pixel of the photo) and position.

const LARGEST = 16;
const MARGIN = 20;

export class Viewport {
  // moved(): called after every change
  constructor(stage, worlds, moved) {
    Object.assign(this, { stage, worlds, moved });
    this.width = this.height = 1; // of the photo
    this.scale = 1;
    this.x = this.y = 0;
    this.fitted = true;
    new ResizeObserver(() => (this.fitted ? this.fit() : this.#place())).observe(stage);
  }

  show(width, height) {
    Object.assign(this, { width, height });
    this.fit();
  }

  get fitScale() {
    const { clientWidth, clientHeight } = this.stage;
    return Math.max(1e-3, Math.min((clientWidth - 2 * MARGIN) / this.width, (clientHeight - 2 * MARGIN) / this.height));
  }

  fit() {
    this.fitted = true;
    this.scale = this.fitScale;
    this.x = (this.stage.clientWidth - this.scale * this.width) / 2;
    this.y = (this.stage.clientHeight - this.scale * this.height) / 2;
    this.#place();
  }

  // Zoom about a point of the stage, its centre by default.
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const scale = Math.min(LARGEST, Math.max(this.fitScale / 2, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.#place();
  }

  // Zoom to a part [x, y, w, h] of the photo.
  frame([x, y, w, h]) {
    const { clientWidth, clientHeight } = this.stage;
    this.scale = Math.min(LARGEST, 0.7 * Math.min(clientWidth / w, clientHeight / h));
    this.x = clientWidth / 2 - (x + w / 2) * this.scale;
    this.y = clientHeight / 2 - (y + h / 2) * this.scale;
    this.fitted = false;
    this.#place();
  }

  // One pixel of the photo on one of the screen.
  full() {
    this.zoom(1 / (window.devicePixelRatio || 1) / this.scale);
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.#place();
  }

  // Move the view so that a point of the photo is on the stage.
  reveal(x, y) {
    const [sx, sy] = [this.x + x * this.scale, this.y + y * this.scale];
    const inside = sx > 40 && sy > 40 && sx < this.stage.clientWidth - 40 && sy < this.stage.clientHeight - 40;
    if (!inside) this.pan(this.stage.clientWidth / 2 - sx, this.stage.clientHeight / 2 - sy);
  }

  // Position in the photo under a pointer.
  point(event) {
    const box = this.stage.getBoundingClientRect();
    return [(event.clientX - box.left - this.x) / this.scale, (event.clientY - box.top - this.y) / this.scale];
  }

  // The visible part of the photo, [x, y, w, h] in whole pixels, and the size of an image for it.
  get visible() {
    const left = Math.max(0, Math.floor(-this.x / this.scale));
    const top = Math.max(0, Math.floor(-this.y / this.scale));
    const right = Math.min(this.width, Math.ceil((this.stage.clientWidth - this.x) / this.scale));
    const bottom = Math.min(this.height, Math.ceil((this.stage.clientHeight - this.y) / this.scale));
    const [w, h] = [Math.max(1, right - left), Math.max(1, bottom - top)];
    const ratio = Math.min(1, this.scale * (window.devicePixelRatio || 1), 4096 / Math.max(w, h));
    return { window: [left, top, w, h], size: [Math.max(1, Math.round(w * ratio)), Math.max(1, Math.round(h * ratio))] };
  }

  // The whole photo as an image that fits the stage.
  get whole() {
    const ratio = Math.min(1, this.fitScale * (window.devicePixelRatio || 1), 4096 / Math.max(this.width, this.height));
    const size = [this.width, this.height].map((side) => Math.max(1, Math.round(side * ratio)));
    return { window: [0, 0, this.width, this.height], size };
  }

  #place() {
    const keep = 60; // visible part of the photo in screen pixels
    this.x = Math.min(this.stage.clientWidth - keep, Math.max(keep - this.scale * this.width, this.x));
    this.y = Math.min(this.stage.clientHeight - keep, Math.max(keep - this.scale * this.height, this.y));
    for (const world of this.worlds) {
      world.style.width = `${this.scale * this.width}px`;
      world.style.height = `${this.scale * this.height}px`;
      world.style.transform = `translate(${this.x}px, ${this.y}px)`;
    }
    this.moved();
  }
}
