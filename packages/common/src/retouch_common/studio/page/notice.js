// One-line notices: errors stay until dismissed, other messages disappear.

import { byId } from "./dom.js";

const SECONDS = 5;

export class Notice {
  #timer = 0;

  constructor() {
    [this.box, this.text, this.button] = [byId("notice"), byId("notice-text"), byId("notice-action")];
    byId("notice-close").addEventListener("click", () => this.clear());
  }

  // action: [label, handler] of a button
  error(line, action = null) {
    this.#show(line, "error", action);
  }

  info(line) {
    this.#show(line, "info", null);
    this.#timer = setTimeout(() => this.clear(), 1000 * SECONDS);
  }

  // Add a line to the notice that is shown, if any.
  add(line) {
    if (this.box.hidden) this.info(line);
    else this.text.textContent += ` ${line}`;
  }

  clear() {
    clearTimeout(this.#timer);
    this.box.hidden = true;
    this.text.textContent = "";
  }

  #show(line, kind, action) {
    this.clear();
    this.box.dataset.kind = kind;
    this.box.hidden = false;
    this.text.textContent = line;
    this.button.hidden = !action;
    if (!action) return;
    this.button.textContent = action[0];
    this.button.onclick = () => {
      this.clear();
      action[1]();
    };
  }
}
