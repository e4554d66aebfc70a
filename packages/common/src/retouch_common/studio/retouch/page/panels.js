// The panels of faces and sizes.

import { create, resizeList } from "../shell/dom.js";

const SIZES = {
  small: ["Small", "spots up to some 5 mm"], medium: ["Medium", "up to some 15 mm"], large: ["Large", "patches"],
  rest: ["The rest", "evener tone, too faint to be outlined"],
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

// rows: [title, text, checked, indeterminate, onchange, tooltip]
function showRows(container, rows) {
  const list = container.querySelector("div");
  resizeList(list, rows.length, () => create("label", {}, create("input", { type: "checkbox" }), create("span"), create("output")));
  rows.forEach(([title, text, checked, indeterminate, onchange, tooltip = ""], index) => {
    const label = list.children[index];
    const [input, name, output] = label.children;
    Object.assign(input, { checked, indeterminate, onchange });
    [name.textContent, output.value, label.title] = [title, text, tooltip];
  });
}
