// Pan and zoom of the photo on the stage: scale (CSS pixels per pixel of the photo) and position.

const MIN_VISIBLE = 60; // of the photo when it is panned, in CSS pixels
const CELL = 16; // pixels of the photo; windows begin and end at multiples, where the server reduces by whole cells
const MAX_SIDE = 4096; // of an image

export class Viewport {
  // elements: laid out over the photo; onChange(): called after every change
  constructor(stage, elements, onChange, { maxScale = 16, margin = 20 } = {}) {
    Object.assign(this, { stage, elements, onChange, maxScale, margin });
    this.width = this.height = this.factor = 1; // of the photo, and of its proxy
    this.scale = 1;
    this.x = this.y = 0;
    this.fitted = true; // whether the photo is kept fitted to the stage
    new ResizeObserver(() => (this.fitted ? this.fit() : this.#update())).observe(stage);
  }

  // photo: its width, height, and the factor by which its proxy is reduced
  show({ width, height, factor }) {
    Object.assign(this, { width, height, factor });
    this.fit();
  }

  // Actions of buttons and keys.
  get actions() {
    return {
      zoomIn: () => this.zoom(1.25),
      zoomOut: () => this.zoom(0.8),
      fit: () => this.fit(),
      actualSize: () => this.zoom(1 / (window.devicePixelRatio || 1) / this.scale), // pixel by pixel
    };
  }

  get fitScale() {
    const { clientWidth, clientHeight } = this.stage;
    return Math.max(1e-3, Math.min((clientWidth - 2 * this.margin) / this.width, (clientHeight - 2 * this.margin) / this.height));
  }

  fit() {
    this.fitted = true;
    this.scale = this.fitScale;
    this.x = (this.stage.clientWidth - this.scale * this.width) / 2;
    this.y = (this.stage.clientHeight - this.scale * this.height) / 2;
    this.#update();
  }

  // Zoom about a point of the stage, by default its centre.
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const minScale = Math.min(this.fitScale / 2, 1 / (window.devicePixelRatio || 1)); // of small photos 1:1
    const scale = Math.min(this.maxScale, Math.max(minScale, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.#update();
  }

  // Zoom to a window [x, y, w, h] of the photo.
  zoomTo([x, y, w, h]) {
    const { clientWidth, clientHeight } = this.stage;
    this.scale = Math.min(this.maxScale, 0.7 * Math.min(clientWidth / w, clientHeight / h));
    this.x = clientWidth / 2 - (x + w / 2) * this.scale;
    this.y = clientHeight / 2 - (y + h / 2) * this.scale;
    this.fitted = false;
    this.#update();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.#update();
  }

  // Pan so that a point of the photo is visible.
  reveal(x, y) {
    const [sx, sy] = [this.x + x * this.scale, this.y + y * this.scale];
    const inside = sx > 40 && sy > 40 && sx < this.stage.clientWidth - 40 && sy < this.stage.clientHeight - 40;
    if (!inside) this.pan(this.stage.clientWidth / 2 - sx, this.stage.clientHeight / 2 - sy);
  }

  // Position in the photo of the stage's centre.
  get centre() {
    const { clientWidth, clientHeight } = this.stage;
    return [(clientWidth / 2 - this.x) / this.scale, (clientHeight / 2 - this.y) / this.scale];
  }

  // Position in the photo under a pointer.
  point(event) {
    const box = this.stage.getBoundingClientRect();
    return [(event.clientX - box.left - this.x) / this.scale, (event.clientY - box.top - this.y) / this.scale];
  }

  // Pixels of an image of the photo per pixel of the photo that the screen can show.
  get ratio() {
    return Math.min(1, this.scale * (window.devicePixelRatio || 1));
  }

  // Whether the screen shows more than the proxy has.
  get exceedsProxy() {
    return this.ratio * this.factor > 1.02;
  }

  // Window [x, y, w, h] of the visible part in pixels of the photo, and the size of an image of it.
  get visible() {
    const left = Math.max(0, CELL * Math.floor(-this.x / this.scale / CELL));
    const top = Math.max(0, CELL * Math.floor(-this.y / this.scale / CELL));
    const right = Math.min(this.width, CELL * Math.ceil((this.stage.clientWidth - this.x) / this.scale / CELL));
    const bottom = Math.min(this.height, CELL * Math.ceil((this.stage.clientHeight - this.y) / this.scale / CELL));
    const [w, h] = [Math.max(1, right - left), Math.max(1, bottom - top)];
    const ratio = Math.min(this.ratio, MAX_SIDE / Math.max(w, h));
    return { window: [left, top, w, h], size: [Math.max(1, Math.round(w * ratio)), Math.max(1, Math.round(h * ratio))] };
  }

  // Window and image size of the whole photo, fitted to the stage as far as the proxy suffices.
  get whole() {
    const ratio = Math.min(1 / this.factor, this.fitScale * (window.devicePixelRatio || 1));
    const size = [this.width, this.height].map((side) => Math.max(1, Math.floor(side * ratio)));
    return { window: [0, 0, this.width, this.height], size };
  }

  #update() {
    this.x = Math.min(this.stage.clientWidth - MIN_VISIBLE, Math.max(MIN_VISIBLE - this.scale * this.width, this.x));
    this.y = Math.min(this.stage.clientHeight - MIN_VISIBLE, Math.max(MIN_VISIBLE - this.scale * this.height, this.y));
    for (const { style } of this.elements) {
      style.width = `${this.scale * this.width}px`;
      style.height = `${this.scale * this.height}px`;
      style.transform = `translate(${this.x}px, ${this.y}px)`;
    }
    this.onChange();
  }
}
