// The mask on the stage.

import { fitCanvas, strokeCursor } from "../shell/canvas.js";
import { Viewport } from "../shell/viewport.js";
import { discSpans } from "./labels.js";

const PIXEL_OUTLINE_SCALE = 5; // from here on the brush's outline follows pixels

export class MaskView extends Viewport {
  constructor(stage, world, labelCanvas, cursorCanvas, labels, colours) {
    super(stage, [world], () => {}, { maxScale: 40, margin: 28 });
    Object.assign(this, { labels, cursorCanvas, width: labels.size, height: labels.size });
    labelCanvas.width = labelCanvas.height = labels.size;
    this.context = labelCanvas.getContext("2d");
    this.pixels = new ImageData(labels.size, labels.size);
    this.words = new Uint32Array(this.pixels.data.buffer);
    this.colours = new Uint32Array(colours.map(([r, g, b]) => new Uint32Array(new Uint8Array([r, g, b, 255]).buffer)[0]));
  }

  // Opacity from 0 to 1; the background is fainter than the other classes.
  setOpacity(opacity) {
    this.context.canvas.style.opacity = opacity;
    new Uint8Array(this.colours.buffer)[3] = Math.round(255 * opacity ** 2);
    this.draw();
  }

  draw() {
    const { data } = this.labels;
    for (let at = 0; at < data.length; at++) this.words[at] = this.colours[data[at]]; // forEach takes ten times as long
    this.context.putImageData(this.pixels, 0, 0);
  }

  // Outline the brush at a point, or nowhere if it is null.
  drawCursor(point, diameter) {
    const context = fitCanvas(this.cursorCanvas, this.stage);
    if (!point) return;
    const snap = diameter % 2 ? Math.floor : Math.round;
    const [cx, cy] = point.map(snap);
    const screenX = (x) => this.x + (cx + x) * this.scale;
    const screenY = (y) => this.y + (cy + y) * this.scale;
    context.beginPath();
    if (this.scale < PIXEL_OUTLINE_SCALE) {
      const middle = diameter % 2 ? 0.5 : 0;
      context.arc(screenX(middle), screenY(middle), (diameter / 2) * this.scale, 0, 2 * Math.PI);
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
    strokeCursor(context);
  }
}
