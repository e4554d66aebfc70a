// The left panel: tools, brush size, classes, opacity.

import { bindSlider } from "../shell/range.js";

export const classTitle = (name) => {
  const [part, side] = name.split("_");
  const title = side === "lip" ? `${part} lip` : side ? `${side} ${part}` : part;
  return title[0].toUpperCase() + title.slice(1);
};

// Digits for the first ten classes, H for hair.
const keyOf = (index) => (index < 10 ? String(index) : "H");

export function buildTools(store, about) {
  const byId = (id) => document.getElementById(id);

  const tools = [...document.querySelectorAll('input[name="tool"]')];
  tools.forEach((input) => input.addEventListener("change", () => store.set({ tool: input.value })));
  store.subscribe(["tool"], () => {
    tools.forEach((input) => (input.checked = input.value === store.get("tool")));
    byId("stage").dataset.tool = store.get("tool");
  });

  const palette = byId("palette");
  const classes = about.classes.map((name, index) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "class", value: index });
    const swatch = document.createElement("i");
    swatch.style.background = `rgb(${about.colours[index].join(" ")})`;
    const title = Object.assign(document.createElement("span"), { textContent: classTitle(name) });
    const key = Object.assign(document.createElement("kbd"), { textContent: keyOf(index) });
    label.append(input, swatch, title, key);
    palette.append(label);
    input.addEventListener("change", () => selectClass(store, index));
    return input;
  });
  store.subscribe(["classIndex"], () => (classes[store.get("classIndex")].checked = true));

  const over = byId("over");
  over.append(new Option("anything", ""));
  about.classes.forEach((name, index) => over.append(new Option(classTitle(name).toLowerCase(), index)));
  over.addEventListener("change", () => {
    store.set({ over: over.value === "" ? null : Number(over.value) });
    over.blur();
  });
  store.subscribe(["over"], () => {
    over.value = store.get("over") ?? "";
    over.classList.toggle("active", store.get("over") !== null);
  });

  bindSlider("size", store, (value) => `${value} px`);
  bindSlider("opacity", store, (value) => `${value} %`);
}

// Select a class; switches to the brush if the current tool does not paint.
export function selectClass(store, classIndex) {
  const changes = { classIndex, tool: store.get("tool") === "fill" ? "fill" : "brush" };
  if (classIndex !== store.get("classIndex")) changes.lastClass = store.get("classIndex");
  store.set(changes);
}
