// The choice of one of a photo's faces.

// Radio buttons, hidden if there is one face. container: fieldset with a div; chosen: index; onChoose(index). Elements are reused, so that the focus stays.
export function showFaceChoice(container, count, chosen, onChoose) {
  const list = container.querySelector("div");
  while (list.children.length > count) list.lastElementChild.remove();
  while (list.children.length < count) {
    const label = document.createElement("label");
    const number = Object.assign(document.createElement("span"), { textContent: String(list.children.length + 1) });
    label.append(Object.assign(document.createElement("input"), { type: "radio", name: "face" }), number);
    list.append(label);
  }
  [...list.children].forEach(({ firstElementChild: input }, index) => {
    Object.assign(input, { checked: index === chosen, onchange: () => onChoose(index) });
    input.setAttribute("aria-label", `Face ${index + 1} of ${count}`);
  });
  container.hidden = count < 2;
}

// Outlines over the photo, with a button each that chooses the face.
export class FaceFrames {
  // onChoose(index)
  constructor(container, viewport, onChoose) {
    Object.assign(this, { container, viewport, onChoose });
    this.faces = [];
  }

  show(faces, chosen) {
    this.faces = faces;
    const { children } = this.container;
    while (children.length > faces.length) this.container.lastElementChild.remove();
    while (children.length < faces.length) this.container.append(this.#frame(children.length));
    [...children].forEach((frame, index) => {
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
    const frame = Object.assign(document.createElement("div"), { className: "face-frame" });
    const chip = Object.assign(document.createElement("button"), {
      type: "button", className: "face-chip", textContent: `Face ${index + 1}`, title: "Show what was found in this face",
    });
    chip.addEventListener("pointerdown", (event) => event.stopPropagation());
    chip.addEventListener("click", () => this.onChoose(index));
    frame.append(chip);
    return frame;
  }
}
