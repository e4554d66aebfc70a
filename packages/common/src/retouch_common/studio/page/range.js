// Sliders.

// Bind the slider #name, with the output #name-value, to a value of the store. format(value): text of the output
export function bindSlider(name, store, format) {
  const input = document.getElementById(name);
  const output = document.getElementById(`${name}-value`);
  input.addEventListener("input", () => store.set({ [name]: Number(input.value) }));
  store.subscribe([name], () => {
    input.value = store.get(name);
    output.value = format(store.get(name));
    input.setAttribute("aria-valuetext", output.value);
    updateTrack(input);
  });
}

// Set the length of the coloured part of the track, which not all browsers draw.
export function updateTrack(input) {
  const share = (100 * (input.value - input.min)) / (input.max - input.min || 1);
  input.style.setProperty("--share", `${share}%`);
}
