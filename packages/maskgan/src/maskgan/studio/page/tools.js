// The left panel: tools, brush size, classes, protected classes, opacity.

import { slider } from "../shell/range.js";

export const titleOf = (name) => {
  const [what, side] = name.split("_");
  const words = side === "lip" ? `${what} lip` : side ? `${side} ${what}` : what;
  return words[0].toUpperCase() + words.slice(1);
};

// Digits for the first ten classes, H for hair.
const keyOf = (klass) => (klass < 10 ? String(klass) : "H");

export function buildTools(store, about) {
  const byId = (id) => document.getElementById(id);

  const tools = [...document.querySelectorAll('input[name="tool"]')];
  tools.forEach((input) => input.addEventListener("change", () => store.set({ tool: input.value })));
  store.follow(["tool"], () => {
    tools.forEach((input) => (input.checked = input.value === store.get("tool")));
    byId("stage").dataset.tool = store.get("tool");
  });

  const palette = byId("palette");
  const classes = about.classes.map((name, klass) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "class", value: klass });
    const swatch = document.createElement("i");
    swatch.style.background = `rgb(${about.colours[klass].join(" ")})`;
    const title = Object.assign(document.createElement("span"), { textContent: titleOf(name) });
    const key = Object.assign(document.createElement("kbd"), { textContent: keyOf(klass) });
    label.append(input, swatch, title, key);
    palette.append(label);
    input.addEventListener("change", () => choose(store, klass));
    return input;
  });
  store.follow(["klass"], () => (classes[store.get("klass")].checked = true));

  const over = byId("over");
  over.append(new Option("anything", ""));
  about.classes.forEach((name, klass) => over.append(new Option(titleOf(name).toLowerCase(), klass)));
  over.addEventListener("change", () => {
    store.set({ over: over.value === "" ? null : Number(over.value) });
    over.blur();
  });
  store.follow(["over"], () => {
    over.value = store.get("over") ?? "";
    over.classList.toggle("active", store.get("over") !== null);
  });

  slider("size", store, (value) => `${value} px`);
  slider("opacity", store, (value) => `${value} %`);
}

// Select a class; switches to the brush if the current tool does not paint.
export function choose(store, klass) {
  const changes = { klass, tool: store.get("tool") === "fill" ? "fill" : "brush" };
  if (klass !== store.get("klass")) changes.lastClass = store.get("klass");
  store.set(changes);
}
