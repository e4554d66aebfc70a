// The panels: networks, faces, sizes, overlays, formats.

const SIZES = {
  small: ["Small", "spots up to some 5 mm"], medium: ["Medium", "up to some 15 mm"], large: ["Large", "patches"],
  rest: ["The rest", "evener tone, too faint to be outlined"],
};

// options: [value, title]; onChange(value)
export function buildRadios(container, name, options, onChange) {
  container.replaceChildren(
    ...options.map(([value, title]) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name, value });
      input.addEventListener("change", () => onChange(value));
      label.append(input, Object.assign(document.createElement("span"), { textContent: title }));
      return label;
    }),
  );
}

export const checkRadio = (name, value) => {
  for (const input of document.querySelectorAll(`input[name="${name}"]`)) input.checked = input.value === value;
};

// A checkbox for every face.
export function showFaces(container, faces, toggle) {
  showRows(container, faces.map(({ on }, index) => [`Face ${index + 1}`, "", on, false, () => toggle(index)]));
}

// A checkbox for every size of blemishes that occurs.
export function showSizes(container, state, toggle) {
  const found = Object.entries(state?.sizes ?? {}).filter(([, { count }]) => count > 0);
  showRows(container, found.map(([size, { count, on }]) => {
    const share = size === "rest" ? "" : on === count ? String(count) : `${on} of ${count}`;
    return [SIZES[size][0], share, on > 0, on > 0 && on < count, () => toggle(size, on === 0), SIZES[size][1]];
  }));
}

// rows: [title, text, checked, indeterminate, onchange, tooltip]; elements are reused, so that the focus stays
function showRows(container, rows) {
  const list = container.querySelector("div");
  while (list.children.length > rows.length) list.lastElementChild.remove();
  while (list.children.length < rows.length) {
    const label = document.createElement("label");
    label.append(
      Object.assign(document.createElement("input"), { type: "checkbox" }),
      document.createElement("span"), document.createElement("output"),
    );
    list.append(label);
  }
  rows.forEach(([title, text, checked, indeterminate, onchange, tooltip = ""], index) => {
    const label = list.children[index];
    const [input, name, output] = label.children;
    Object.assign(input, { checked, indeterminate, onchange });
    [name.textContent, output.value, label.title] = [title, text, tooltip];
  });
}
