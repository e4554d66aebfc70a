// The page's state: `set` changes it and notifies subscribers.

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
    for (const { names, tell } of this.#listeners) {
      if (names.some((name) => changed.includes(name))) tell();
    }
  }

  // Call `tell` now and whenever one of `names` changes.
  follow(names, tell) {
    this.#listeners.push({ names, tell });
    tell();
  }
}
