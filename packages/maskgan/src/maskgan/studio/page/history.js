// Undo history, with a step per stroke. A step stores the labels in the changed rectangle, before and after; the oldest
// steps are dropped when they exceed MAX_BYTES.

const MAX_BYTES = 32 * 2 ** 20;

export class History {
  #labels;
  #done = [];
  #undone = [];
  #bytes = 0;
  #onChange;

  constructor(labels, onChange) {
    this.#labels = labels;
    this.#onChange = onChange; // called with the rectangle that undo or redo has changed, or null if only canUndo or canRedo has
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  clear() {
    this.#done = [];
    this.#undone = [];
    this.#bytes = 0;
    this.#onChange(null);
  }

  // Record the changes since `before`, a copy of the labels; false if there are none.
  commit(before) {
    const { data, size } = this.#labels;
    let [left, top, right, bottom] = [size, size, 0, 0];
    for (let y = 0, at = 0; y < size; y++) {
      for (let x = 0; x < size; x++, at++) {
        if (data[at] === before[at]) continue;
        left = Math.min(left, x);
        right = Math.max(right, x + 1);
        top = Math.min(top, y);
        bottom = y + 1;
      }
    }
    if (left >= right) return false;
    const box = [left, top, right, bottom];
    this.#undone.forEach((step) => (this.#bytes -= byteSize(step)));
    this.#undone = [];
    this.#done.push({ box, before: crop(before, size, box), after: crop(data, size, box) });
    this.#bytes += byteSize(this.#done.at(-1));
    while (this.#bytes > MAX_BYTES && this.#done.length > 1) this.#bytes -= byteSize(this.#done.shift());
    this.#onChange(null);
    return true;
  }

  undo() {
    this.#apply(this.#done, this.#undone, "before");
  }

  redo() {
    this.#apply(this.#undone, this.#done, "after");
  }

  #apply(from, to, which) {
    const step = from.pop();
    if (!step) return;
    to.push(step);
    const [left, top, right, bottom] = step.box;
    const { data, size } = this.#labels;
    const width = right - left;
    for (let y = top; y < bottom; y++) {
      data.set(step[which].subarray((y - top) * width, (y - top + 1) * width), y * size + left);
    }
    this.#onChange(step.box);
  }
}

const byteSize = (step) => step.before.length + step.after.length;

function crop(data, size, [left, top, right, bottom]) {
  const width = right - left;
  const part = new Uint8Array(width * (bottom - top));
  for (let y = top; y < bottom; y++) part.set(data.subarray(y * size + left, y * size + right), (y - top) * width);
  return part;
}
