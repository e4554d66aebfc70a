// Sliders and radio buttons.

import { byId, create } from "./dom.js";

// Show a value, and the text that stands for it, by the slider #name with the output #name-value.
export function showSlider(name, value, text) {
  const input = byId(name);
  input.value = value;
  byId(`${name}-value`).value = text;
  input.setAttribute("aria-valuetext", text);
  updateTrack(input);
}

// Bind the slider #name, with the output #name-value, to a value of the store. format(value): text of the output
export function bindSlider(name, store, format) {
  const input = byId(name);
  input.addEventListener("input", () => store.set({ [name]: Number(input.value) }));
  store.subscribe([name], () => showSlider(name, store.get(name), format(store.get(name))));
}

// Set the length of the coloured part of the track, which not all browsers draw.
export function updateTrack(input) {
  const share = (100 * (input.value - input.min)) / (input.max - input.min || 1);
  input.style.setProperty("--share", `${share}%`);
}

// Radio buttons with this name; options: [value, title]; onChange(value)
export const buildRadios = (name, options, onChange) =>
  options.map(([value, title]) =>
    create("label", {}, create("input", { type: "radio", name, value, onchange: () => onChange(value) }), create("span", { textContent: title })));

export function checkRadio(name, value) {
  for (const input of document.querySelectorAll(`input[name="${name}"]`)) input.checked = input.value === value;
}

// Bind the radio buttons of a name to a value of the store.
export function bindRadios(name, store) {
  for (const input of document.querySelectorAll(`input[name="${name}"]`)) {
    input.addEventListener("change", () => store.set({ [name]: input.value }));
  }
  store.subscribe([name], () => checkRadio(name, store.get(name)));
}
