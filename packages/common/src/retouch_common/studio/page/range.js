// Sliders that show and change a value of the store.

export function slider(name, store, text) {
  const input = document.getElementById(name);
  const output = document.getElementById(`${name}-value`);
  input.addEventListener("input", () => store.set({ [name]: Number(input.value) }));
  store.follow([name], () => {
    input.value = store.get(name);
    output.value = text(store.get(name));
    input.setAttribute("aria-valuetext", output.value);
    filled(input);
  });
}

// Browsers do not colour a slider's track before its thumb.
export function filled(input) {
  const share = (100 * (input.value - input.min)) / (input.max - input.min || 1);
  input.style.setProperty("--share", `${share}%`);
}
