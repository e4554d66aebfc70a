// Keyboard shortcuts, and their list under `?`.
//
// The keys of a tool: {help, note, command, plain, held}
//   help, note: rows of the list by title, and a line below it
//   command, plain: names of actions by key, with Ctrl and without a modifier
//   held: names of actions that are called with true when the key is pressed, and with false when it is released

import { byId, create } from "./dom.js";

const COMMAND = { z: "undo", "shift+z": "redo", y: "redo", o: "open", s: "export" };
const PLAIN = { "?": "help" };
const WITHOUT_PHOTO = ["open", "help"];

export function buildHelp({ help, note }) {
  for (const [title, rows] of help) {
    const terms = rows.flatMap(([key, description]) => [
      create("dt", {}, create("kbd", { textContent: key })),
      create("dd", { textContent: description }),
    ]);
    byId("help-keys").append(create("section", {}, create("h3", { textContent: title }), create("dl", {}, ...terms)));
  }
  byId("help-note").textContent = note;
}

export function bindKeys(keys, actions, hasPhoto) {
  const commandActions = { ...COMMAND, ...keys.command };
  const plainActions = { ...PLAIN, ...keys.plain };
  const heldActions = keys.held ?? {};
  const takesText = (target) => target.matches?.('select, textarea, input:not([type="radio"]):not([type="range"]):not([type="checkbox"])');
  const takesSpace = (target) => target.matches?.('button, summary, a, input[type="checkbox"], input[type="radio"], [role="checkbox"]');
  const held = new Set();

  window.addEventListener("keydown", (event) => {
    if (takesText(event.target) || document.querySelector("dialog[open]") || event.altKey) return;
    const key = event.key.toLowerCase();
    const command = event.ctrlKey || event.metaKey;
    if (!command && heldActions[key] && hasPhoto()) {
      if (key === " " && takesSpace(event.target)) return; // Space presses the focused control
      event.preventDefault();
      if (!held.has(key)) actions[heldActions[key]](true);
      held.add(key);
      return;
    }
    let name = command ? commandActions[(event.shiftKey ? "shift+" : "") + key] : plainActions[key];
    let value;
    if (Array.isArray(name)) [name, value] = name; // an action with an argument
    if (!name || !(hasPhoto() || WITHOUT_PHOTO.includes(name))) return;
    event.preventDefault();
    actions[name](value);
  });
  const release = (key) => {
    if (held.delete(key)) actions[heldActions[key]](false);
  };
  window.addEventListener("keyup", (event) => release(event.key.toLowerCase()));
  // Controls clicked with a pointer return the focus to the stage; detail is 0 for key presses.
  window.addEventListener("click", (event) => {
    if (event.detail > 0) event.target.closest("button")?.blur();
  });
  window.addEventListener("blur", () => [...held].forEach(release));
}
