// Keyboard shortcuts and their list under `?`.

const HELP = [
  ["Paint", [
    ["B", "brush"], ["E", "eraser"], ["G", "fill"], ["I", "pick the class under the pointer"],
    ["0 – 9, H", "class: background, skin, … lower lip; hair"], ["X", "the class used before"],
    ["[  ]", "smaller, larger brush"], ["L", "paint only over the class under the pointer"],
    ["Shift + click", "straight line from the last stroke"], ["Alt, right button", "pick"],
  ]],
  ["View and files", [
    ["Ctrl + Z", "undo"], ["Ctrl + Shift + Z", "redo"], ["wheel, +  −", "zoom"], ["Z", "fit the view"],
    ["Space, V, middle button", "move the view"], ["M", "show or hide the mask"], ["C", "hold: the face as it was"],
    ["Ctrl + O", "open a photo"], ["Ctrl + S", "save the photo"], ["?", "this list"],
  ]],
];

export function buildHelp(place) {
  for (const [title, rows] of HELP) {
    const list = document.createElement("dl");
    list.append(Object.assign(document.createElement("h3"), { textContent: title }));
    for (const [key, what] of rows) {
      const term = document.createElement("dt");
      term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
      list.append(term, Object.assign(document.createElement("dd"), { textContent: what }));
    }
    place.append(list);
  }
}

const BRUSHES = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64];

// The next larger or smaller brush size.
export function otherSize(size, step) {
  const bigger = BRUSHES.find((one) => one > size) ?? BRUSHES.at(-1);
  const smaller = [...BRUSHES].reverse().find((one) => one < size) ?? BRUSHES[0];
  return step > 0 ? bigger : smaller;
}

// actions: handlers by the names below; those of HELD are also called when the key is released.
const COMMANDS = { z: "undo", "shift+z": "redo", y: "redo", o: "open", s: "save" };
const PLAIN = {
  b: "brush", e: "eraser", g: "fill", f: "fill", i: "pick", v: "hand", x: "swap", l: "only", m: "mask", z: "fit",
  "[": "smaller", "]": "larger", "+": "zoomIn", "=": "zoomIn", "-": "zoomOut", "?": "help",
};
const HELD = { " ": "space", c: "compare" };

export function listen(actions, hasPhoto) {
  const typing = (target) => target.matches?.('select, textarea, input:not([type="radio"]):not([type="range"])');
  const always = ["open", "help"];
  const held = new Set();

  window.addEventListener("keydown", (event) => {
    if (typing(event.target) || document.querySelector("dialog[open]") || event.altKey) return;
    const key = event.key.toLowerCase();
    const command = event.ctrlKey || event.metaKey;
    if (!command && HELD[key] && hasPhoto()) {
      if (key === " " && event.target.matches?.("button")) return; // Space presses the focused button
      event.preventDefault();
      if (!held.has(key)) actions[HELD[key]](true);
      held.add(key);
      return;
    }
    let name = command ? COMMANDS[(event.shiftKey ? "shift+" : "") + key] : PLAIN[key];
    let value;
    if (!command && (/^[0-9]$/.test(key) || key === "h")) [name, value] = ["klass", key === "h" ? 10 : Number(key)];
    if (!name || !(hasPhoto() || always.includes(name))) return;
    event.preventDefault();
    actions[name](value);
  });
  const release = (key) => {
    if (held.delete(key)) actions[HELD[key]](false);
  };
  window.addEventListener("keyup", (event) => release(event.key.toLowerCase()));
  // Controls clicked with a pointer return the focus to the stage; detail is 0 for key presses.
  window.addEventListener("click", (event) => {
    if (event.detail > 0) event.target.closest("button")?.blur();
  });
  window.addEventListener("blur", () => [...held].forEach(release));
}
