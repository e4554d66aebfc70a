// The choice of one of a photo's faces.

import { create, resizeList } from "./dom.js";

// Radio buttons, hidden if there is one face. container: fieldset with a div; chosen: index; onChoose(index)
export function showFaceChoice(container, count, chosen, onChoose) {
  const list = container.querySelector("div");
  resizeList(list, count, (index) =>
    create("label", {}, create("input", { type: "radio", name: "face" }), create("span", { textContent: index + 1 })));
  [...list.children].forEach(({ firstElementChild: input }, index) => {
    Object.assign(input, { checked: index === chosen, onchange: () => onChoose(index) });
    input.setAttribute("aria-label", `Face ${index + 1} of ${count}`);
  });
  container.hidden = count < 2;
}

// A button over the photo that names a face. onClick(index)
export const createChip = (index, onClick) =>
  create("button", {
    type: "button", className: "face-chip", textContent: `Face ${index + 1}`,
    onpointerdown: (event) => event.stopPropagation(), onclick: () => onClick(index),
  });

// Outlines over the photo, with a button each that chooses the face.
export class FaceFrames {
  // onChoose(index)
  constructor(container, viewport, onChoose) {
    Object.assign(this, { container, viewport, onChoose });
    this.faces = [];
  }

  show(faces, chosen) {
    this.faces = faces;
    resizeList(this.container, faces.length, (index) => this.#frame(index));
    [...this.container.children].forEach((frame, index) => {
      frame.classList.toggle("off", index !== chosen);
      frame.firstElementChild.setAttribute("aria-pressed", index === chosen);
    });
    this.layout();
  }

  // Follow the viewport.
  layout() {
    const { scale, x, y } = this.viewport;
    this.faces.forEach(({ box: [left, top, width, height] }, index) => {
      const transform = `translate(${x + left * scale}px, ${y + top * scale}px)`;
      Object.assign(this.container.children[index].style, { transform, width: `${width * scale}px`, height: `${height * scale}px` });
    });
  }

  #frame(index) {
    const chip = createChip(index, this.onChoose);
    chip.title = "Show what was found in this face";
    return create("div", { className: "face-frame" }, chip);
  }
}
