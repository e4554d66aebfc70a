// The panels: networks, faces, sizes, overlays, formats.

const SIZES = {
  small: ["Small", "spots up to some 5 mm"], medium: ["Medium", "up to some 15 mm"], large: ["Large", "patches"],
  rest: ["The rest", "evener tone, too faint to be outlined"],
};

export function radios(place, name, options, chosen) {
  place.replaceChildren(
    ...options.map(([value, title]) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name, value });
      input.addEventListener("change", () => chosen(value));
      label.append(input, Object.assign(document.createElement("span"), { textContent: title }));
      return label;
    }),
  );
}

export const check = (name, value) => {
  for (const input of document.querySelectorAll(`input[name="${name}"]`)) input.checked = input.value === value;
};

// A checkbox for every face.
export function showFaces(place, state, toggle) {
  rows(place, (state?.faces ?? []).map(({ on }, number) => [`Face ${number + 1}`, "", on, false, () => toggle(number)]));
}

// A checkbox for every kind of size that occurs.
export function showSizes(place, state, toggle) {
  const found = Object.entries(state?.sizes ?? {}).filter(([, { count }]) => count > 0);
  rows(place, found.map(([size, { count, on }]) => {
    const share = size === "rest" ? "" : on === count ? String(count) : `${on} of ${count}`;
    return [SIZES[size][0], share, on > 0, on > 0 && on < count, () => toggle(size, on === 0), SIZES[size][1]];
  }));
}

// rows: [title, text, checked, in part, changed, tooltip]; elements are kept, so that the focus stays
function rows(place, contents) {
  const list = place.querySelector("div");
  while (list.children.length > contents.length) list.lastElementChild.remove();
  while (list.children.length < contents.length) {
    const label = document.createElement("label");
    label.append(
      Object.assign(document.createElement("input"), { type: "checkbox" }),
      document.createElement("span"), document.createElement("output"),
    );
    list.append(label);
  }
  contents.forEach(([title, text, checked, part, changed, tip = ""], index) => {
    const label = list.children[index];
    const [input, name, output] = label.children;
    Object.assign(input, { checked, indeterminate: part, onchange: changed });
    [name.textContent, output.value, label.title] = [title, text, tip];
  });
}
