// Keyboard shortcuts, and their list under `?`.
//
// A tool's keys: {help, note, command, plain, held}: rows of the list by title, a line below it; names of actions by key
// with Ctrl, by key alone, and by key for actions that are called with true when it is pressed and false when released.

const COMMAND = { z: "undo", "shift+z": "redo", y: "redo", o: "open", s: "save" };
const PLAIN = { "?": "help" };
const ALWAYS = ["open", "help"]; // without a photo, too

export function buildHelp({ help, note = "" }) {
  const place = document.getElementById("help-keys");
  for (const [title, rows] of help) {
    const list = document.createElement("dl");
    for (const [key, what] of rows) {
      const term = document.createElement("dt");
      term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
      list.append(term, Object.assign(document.createElement("dd"), { textContent: what }));
    }
    const section = document.createElement("section");
    section.append(Object.assign(document.createElement("h3"), { textContent: title }), list);
    place.append(section);
  }
  document.getElementById("help-note").textContent = note;
}

export function listen(keys, actions, hasPhoto) {
  const commands = { ...COMMAND, ...keys.command };
  const plains = { ...PLAIN, ...keys.plain };
  const helds = keys.held ?? {};
  const typing = (target) => target.matches?.('select, textarea, input:not([type="radio"]):not([type="range"]):not([type="checkbox"])');
  const presses = (target) => target.matches?.('button, summary, a, input[type="checkbox"], input[type="radio"], [role="checkbox"]');
  const held = new Set();

  window.addEventListener("keydown", (event) => {
    if (typing(event.target) || document.querySelector("dialog[open]") || event.altKey) return;
    const key = event.key.toLowerCase();
    const command = event.ctrlKey || event.metaKey;
    if (!command && helds[key] && hasPhoto()) {
      if (key === " " && presses(event.target)) return; // Space presses the focused control
      event.preventDefault();
      if (!held.has(key)) actions[helds[key]](true);
      held.add(key);
      return;
    }
    let name = command ? commands[(event.shiftKey ? "shift+" : "") + key] : plains[key];
    let value;
    if (Array.isArray(name)) [name, value] = name; // an action with an argument
    if (!name || !(hasPhoto() || ALWAYS.includes(name))) return;
    event.preventDefault();
    actions[name](value);
  });
  const release = (key) => {
    if (held.delete(key)) actions[helds[key]](false);
  };
  window.addEventListener("keyup", (event) => release(event.key.toLowerCase()));
  // Controls clicked with a pointer return the focus to the stage; detail is 0 for key presses.
  window.addEventListener("click", (event) => {
    if (event.detail > 0) event.target.closest("button")?.blur();
  });
  window.addEventListener("blur", () => [...held].forEach(release));
}
