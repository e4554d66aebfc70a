// Observable state of a page.

export class Store {
  #values;
  #listeners = [];

  constructor(values) {
    this.#values = values;
  }

  get(name) {
    return this.#values[name];
  }

  set(changes) {
    const changed = Object.keys(changes).filter((name) => this.#values[name] !== changes[name]);
    Object.assign(this.#values, changes);
    for (const { names, listener } of this.#listeners) {
      if (names.some((name) => changed.includes(name))) listener();
    }
  }

  // Call `listener` now and whenever one of the named values changes.
  subscribe(names, listener) {
    this.#listeners.push({ names, listener });
    listener();
  }
}
