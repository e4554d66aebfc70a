// Sliders.

// Show a value, and the text that stands for it, by the slider #name with the output #name-value.
export function showSlider(name, value, text) {
  const input = document.getElementById(name);
  input.value = value;
  document.getElementById(`${name}-value`).value = text;
  input.setAttribute("aria-valuetext", text);
  updateTrack(input);
}

// Bind the slider #name, with the output #name-value, to a value of the store. format(value): text of the output
export function bindSlider(name, store, format) {
  const input = document.getElementById(name);
  input.addEventListener("input", () => store.set({ [name]: Number(input.value) }));
  store.subscribe([name], () => showSlider(name, store.get(name), format(store.get(name))));
}

// Set the length of the coloured part of the track, which not all browsers draw.
export function updateTrack(input) {
  const share = (100 * (input.value - input.min)) / (input.max - input.min || 1);
  input.style.setProperty("--share", `${share}%`);
}
