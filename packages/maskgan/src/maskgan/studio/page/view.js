// View of the mask on the stage: scale, position and drawing.

import { discSpans } from "./labels.js";

const MAX_SCALE = 40; // CSS pixels per pixel of the mask
const PIXEL_OUTLINE_SCALE = 5; // from here on the brush's outline follows pixels

export class View {
  constructor(stage, world, labelCanvas, cursorCanvas, labels, colours) {
    Object.assign(this, { stage, world, labels, cursorCanvas });
    labelCanvas.width = labelCanvas.height = labels.size;
    this.context = labelCanvas.getContext("2d");
    this.pixels = new ImageData(labels.size, labels.size);
    this.colours = new Uint32Array(colours.map(([r, g, b]) => new Uint32Array(new Uint8Array([r, g, b, 255]).buffer)[0]));
    this.words = new Uint32Array(this.pixels.data.buffer);
    this.scale = 1;
    this.x = this.y = 0;
    this.fitted = true;
    this.onChange = () => {};
    new ResizeObserver(() => this.#resized()).observe(stage);
  }

  #resized() {
    const ratio = window.devicePixelRatio || 1;
    this.cursorCanvas.width = Math.round(this.stage.clientWidth * ratio);
    this.cursorCanvas.height = Math.round(this.stage.clientHeight * ratio);
    if (this.fitted) this.fit();
    else this.#update();
  }

  get fitScale() {
    const margin = 28;
    return Math.max(0.2, (Math.min(this.stage.clientWidth, this.stage.clientHeight) - 2 * margin) / this.labels.size);
  }

  fit() {
    this.fitted = true;
    this.scale = this.fitScale;
    this.x = (this.stage.clientWidth - this.scale * this.labels.size) / 2;
    this.y = (this.stage.clientHeight - this.scale * this.labels.size) / 2;
    this.#update();
  }

  // Zoom about a point of the stage, its centre by default.
  zoom(factor, x = this.stage.clientWidth / 2, y = this.stage.clientHeight / 2) {
    const scale = Math.min(MAX_SCALE, Math.max(this.fitScale / 2, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.#update();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.#update();
  }

  #update() {
    const side = this.scale * this.labels.size;
    const keep = 60; // visible part of the mask in screen pixels
    this.x = Math.min(this.stage.clientWidth - keep, Math.max(keep - side, this.x));
    this.y = Math.min(this.stage.clientHeight - keep, Math.max(keep - side, this.y));
    this.world.style.width = this.world.style.height = `${side}px`;
    this.world.style.transform = `translate(${this.x}px, ${this.y}px)`;
    this.onChange();
  }

  // Position (not rounded) in the mask under a pointer.
  point(event) {
    const box = this.stage.getBoundingClientRect();
    return [(event.clientX - box.left - this.x) / this.scale, (event.clientY - box.top - this.y) / this.scale];
  }

  // Opacity from 0 to 1; the background is fainter than the other classes.
  setOpacity(opacity) {
    this.context.canvas.style.opacity = opacity;
    new Uint8Array(this.colours.buffer)[3] = Math.round(255 * opacity ** 2);
    this.draw();
  }

  draw(box = [0, 0, this.labels.size, this.labels.size]) {
    const { size, data } = this.labels;
    const [left, top, right, bottom] = box;
    for (let y = top; y < bottom; y++) {
      for (let at = y * size + left; at < y * size + right; at++) this.words[at] = this.colours[data[at]];
    }
    this.context.putImageData(this.pixels, 0, 0, left, top, right - left, bottom - top);
  }

  // Outline the brush at a point; null hides it.
  cursor(point, diameter) {
    const context = this.cursorCanvas.getContext("2d");
    const ratio = this.cursorCanvas.width / this.stage.clientWidth;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.cursorCanvas.width, this.cursorCanvas.height);
    if (!point) return;
    const snap = diameter % 2 ? Math.floor : Math.round;
    const [cx, cy] = point.map(snap);
    const screenX = (x) => (this.x + (cx + x) * this.scale) * ratio;
    const screenY = (y) => (this.y + (cy + y) * this.scale) * ratio;
    context.beginPath();
    if (this.scale < PIXEL_OUTLINE_SCALE) {
      const middle = diameter % 2 ? 0.5 : 0;
      context.arc(screenX(middle), screenY(middle), (diameter / 2) * this.scale * ratio, 0, 2 * Math.PI);
    } else {
      const spans = discSpans(diameter);
      for (const [dy, from] of spans) {
        context.lineTo(screenX(from), screenY(dy));
        context.lineTo(screenX(from), screenY(dy + 1));
      }
      for (const [dy, , to] of [...spans].reverse()) {
        context.lineTo(screenX(to), screenY(dy + 1));
        context.lineTo(screenX(to), screenY(dy));
      }
      context.closePath();
    }
    for (const [width, colour] of [[3 * ratio, "rgba(0, 0, 0, 0.65)"], [1.25 * ratio, "#fff"]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.stroke();
    }
  }
}
