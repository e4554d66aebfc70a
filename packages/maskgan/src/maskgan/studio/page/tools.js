// Tools, brush size, classes, opacity; what the result shows.

import { bindRadios, bindSlider } from "../shell/controls.js";
import { byId, create } from "../shell/dom.js";

export const classTitle = (name) => {
  const [part, side] = name.split("_");
  const title = side === "lip" ? `${part} lip` : side ? `${side} ${part}` : part;
  return title[0].toUpperCase() + title.slice(1);
};

// Digits for the first ten classes, H for hair.
const keyOf = (index) => (index < 10 ? String(index) : "H");

export function buildTools(store, about) {
  bindRadios("tool", store);
  bindRadios("view", store);

  const classes = about.classes.map((name, index) => {
    const input = create("input", { type: "radio", name: "class", value: index, onchange: () => selectClass(store, index) });
    const swatch = create("i");
    swatch.style.background = `rgb(${about.colours[index].join(" ")})`;
    const title = create("span", { textContent: classTitle(name) });
    byId("palette").append(create("label", {}, input, swatch, title, create("kbd", { textContent: keyOf(index) })));
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
