// Undo history, with a step per stroke: copies of the mask, the oldest of which are dropped beyond MAX_BYTES.

const MAX_BYTES = 64 * 2 ** 20;

export class History {
  #done = []; // the mask before each step
  #undone = []; // and after each step that was undone

  // onChange(restored): called after every change; whether undo or redo has changed the labels
  constructor(labels, onChange) {
    Object.assign(this, { labels, onChange });
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
    this.onChange(false);
  }

  // Record the changes since `before`, a copy of the labels; false if there are none.
  commit(before) {
    const { data } = this.labels;
    if (before.every((value, at) => value === data[at])) return false;
    this.#undone = [];
    this.#done.push(before);
    if (this.#done.length * before.length > MAX_BYTES) this.#done.shift();
    this.onChange(false);
    return true;
  }

  undo() {
    this.#restore(this.#done, this.#undone);
  }

  redo() {
    this.#restore(this.#undone, this.#done);
  }

  #restore(from, to) {
    const restored = from.pop();
    if (!restored) return;
    to.push(this.labels.data.slice());
    this.labels.data.set(restored);
    this.onChange(true);
  }
}
