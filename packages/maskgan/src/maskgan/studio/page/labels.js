// The mask, one class per pixel, and functions that paint on it, without antialiasing.
//
// over: the only class that is overwritten, or null for any.

export class Labels {
  constructor(size) {
    this.size = size;
    this.data = new Uint8Array(size * size);
  }

  // The classes as base64.
  get text() {
    let text = "";
    for (let at = 0; at < this.data.length; at += 8192) text += String.fromCharCode(...this.data.subarray(at, at + 8192));
    return btoa(text);
  }

  set text(value) {
    this.data.set(Uint8Array.from(atob(value), (letter) => letter.charCodeAt(0)));
  }

  // The class of a pixel, null outside the mask.
  at(x, y) {
    const inside = x >= 0 && y >= 0 && x < this.size && y < this.size;
    return inside ? this.data[y * this.size + x] : null;
  }

  // Draw a line with a round brush between two points in pixels of the mask.
  line([x0, y0], [x1, y1], diameter, value, over) {
    const spans = discSpans(diameter);
    // The centre of an even disc is a pixel corner, that of an odd disc a pixel centre.
    const snap = diameter % 2 ? Math.floor : Math.round;
    let [x, y] = [snap(x0), snap(y0)];
    const [endX, endY] = [snap(x1), snap(y1)];
    const [width, height] = [Math.abs(endX - x), -Math.abs(endY - y)];
    const [stepX, stepY] = [x < endX ? 1 : -1, y < endY ? 1 : -1];
    for (let error = width + height; ; ) { // Bresenham's algorithm
      this.#stamp(x, y, spans, value, over);
      if (x === endX && y === endY) break;
      const twice = 2 * error;
      if (twice >= height) [error, x] = [error + height, x + stepX];
      if (twice <= width) [error, y] = [error + width, y + stepY];
    }
  }

  #stamp(x, y, spans, value, over) {
    for (const [dy, from, to] of spans) {
      const row = y + dy;
      if (row < 0 || row >= this.size) continue;
      const first = row * this.size + Math.max(0, x + from);
      const end = row * this.size + Math.min(this.size, x + to);
      if (over === null) {
        if (first < end) this.data.fill(value, first, end);
      } else {
        for (let at = first; at < end; at++) if (this.data[at] === over) this.data[at] = value;
      }
    }
  }

  // Flood-fill with 4-connectivity.
  fill(x, y, value, over) {
    const found = this.at(x, y);
    if (found === null || found === value || (over !== null && found !== over)) return;
    const { size, data } = this;
    const stack = [[x, y]];
    while (stack.length) {
      const [startX, row] = stack.pop();
      const base = row * size;
      if (data[base + startX] !== found) continue;
      let left = startX;
      let right = startX + 1;
      while (left > 0 && data[base + left - 1] === found) left--;
      while (right < size && data[base + right] === found) right++;
      data.fill(value, base + left, base + right);
      for (const next of [row - 1, row + 1]) {
        if (next < 0 || next >= size) continue;
        for (let at = left; at < right; at++) {
          const starts = data[next * size + at] === found && (at === left || data[next * size + at - 1] !== found);
          if (starts) stack.push([at, next]);
        }
      }
    }
  }
}

const spanCache = new Map(); // by diameter

// Rows [dy, from, to) of a disc: the pixels whose centres lie in it.
export function discSpans(diameter) {
  if (!spanCache.has(diameter)) {
    const middle = diameter % 2 ? 0.5 : 0;
    const spans = [];
    for (let dy = -Math.ceil(diameter / 2); dy <= diameter / 2; dy++) {
      const away = dy + 0.5 - middle;
      const half = Math.sqrt(Math.max(0, (diameter / 2) ** 2 - away ** 2));
      if (Math.abs(away) >= diameter / 2) continue;
      const [from, to] = [Math.ceil(middle - half - 0.5), Math.floor(middle + half - 0.5) + 1];
      if (from < to) spans.push([dy, from, to]);
    }
    spanCache.set(diameter, spans);
  }
  return spanCache.get(diameter);
}
