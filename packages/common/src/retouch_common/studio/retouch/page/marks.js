// Outlines over the photo: faces with a button each, and blemishes ("places"), which a click or Enter toggles.

import { resizeList } from "../shell/dom.js";
import { createChip } from "../shell/faces.js";

const SVG = "http://www.w3.org/2000/svg";
const svgElement = (name, attributes) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
const MARGIN = 3; // CSS pixels around a blemish
const MIN_TARGET = 24; // smallest width and height of what a pointer hits, in CSS pixels

const ellipseOf = ({ box: [x, y, w, h] }) => ({ cx: x + w / 2, cy: y + h / 2, "data-rx": w / 2, "data-ry": h / 2 });

export class Marks {
  #focused = null; // "x,y" of the blemish with keyboard focus

  // actions: toggle(blemish), toggleFace(index)
  constructor(svg, chips, viewport, actions) {
    Object.assign(this, { svg, chips, viewport, actions });
    this.blemishes = [];
    this.faces = [];
    this.outlined = false;
  }

  show({ faces, blemishes }, outlined) {
    this.faces = faces;
    this.blemishes = blemishes;
    this.outlined = outlined;
    this.#draw();
  }

  // Move the keyboard focus by `step` blemishes.
  moveFocus(step) {
    if (!this.outlined || !this.blemishes.length) return;
    const current = this.blemishes.findIndex(({ at }) => String(at) === this.#focused);
    const next = current < 0 ? (step > 0 ? 0 : this.blemishes.length - 1) : current + step;
    const blemish = this.blemishes[(next + this.blemishes.length) % this.blemishes.length];
    this.#focused = String(blemish.at);
    this.viewport.reveal(...blemish.at);
    this.#draw();
    this.#focusedElement()?.focus();
  }

  #focusedElement() {
    return this.svg.querySelector(`[data-at="${this.#focused}"]`);
  }

  // Follow the viewport.
  layout() {
    const { scale, x, y, stage } = this.viewport;
    this.svg.setAttribute("viewBox", [-x / scale, -y / scale, stage.clientWidth / scale, stage.clientHeight / scale].join(" "));
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.faces.forEach(({ box }, index) => {
      const chip = this.chips.children[index];
      if (chip) chip.style.transform = `translate(${x + box[0] * scale}px, ${y + box[1] * scale - 24}px)`;
    });
    for (const ellipse of this.svg.querySelectorAll("ellipse")) {
      const least = ellipse.matches(".target") ? MIN_TARGET / 2 / scale : 0;
      for (const radius of ["rx", "ry"]) ellipse.setAttribute(radius, Math.max(least, Number(ellipse.dataset[radius]) + MARGIN / scale));
    }
  }

  #draw() {
    const hadFocus = this.svg.contains(document.activeElement);
    const rectangles = this.faces.map(({ box: [x, y, width, height], on }) =>
      svgElement("rect", { class: `face${on ? "" : " off"}`, x, y, width, height, rx: width / 20 }));
    const outlines = this.outlined ? this.blemishes.map((blemish, index) => this.#blemish(blemish, index)) : [];
    const targets = this.outlined ? this.blemishes.map((blemish) => this.#target(blemish)) : []; // below all outlines
    this.svg.replaceChildren(...rectangles, ...targets, ...outlines);
    this.#showChips();
    this.layout();
    if (hadFocus) this.#focusedElement()?.focus();
  }

  // What a finger can hit around a small blemish.
  #target(blemish) {
    const target = svgElement("ellipse", { class: "target", ...ellipseOf(blemish) });
    target.addEventListener("pointerdown", (event) => event.stopPropagation());
    target.addEventListener("click", () => this.#toggle(blemish));
    return target;
  }

  #blemish(blemish, index) {
    const at = String(blemish.at);
    const isTabStop = this.#focused === null || !this.blemishes.some((other) => String(other.at) === this.#focused)
      ? index === 0
      : at === this.#focused;
    const name = `Place ${index + 1} of ${this.blemishes.length}, ${blemish.size}, ${blemish.on ? "changed" : "brought back"}`;
    const group = svgElement("g", {
      class: "blemish", role: "checkbox", tabindex: isTabStop ? 0 : -1, "data-at": at, "aria-checked": blemish.on, "aria-label": name,
    });
    const geometry = ellipseOf(blemish);
    const tooltip = svgElement("title", {});
    tooltip.textContent = name;
    group.append(tooltip, svgElement("ellipse", { class: "halo", ...geometry }), svgElement("ellipse", geometry));
    group.addEventListener("pointerdown", (event) => event.stopPropagation());
    group.addEventListener("click", () => this.#toggle(blemish));
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      this.#toggle(blemish);
    });
    group.addEventListener("focus", () => (this.#focused = at));
    return group;
  }

  #toggle(blemish) {
    this.#focused = String(blemish.at);
    this.actions.toggle(blemish);
  }

  #showChips() {
    resizeList(this.chips, this.faces.length, (index) => createChip(index, this.actions.toggleFace));
    this.faces.forEach(({ on }, index) => {
      const chip = this.chips.children[index];
      chip.setAttribute("aria-pressed", on);
      chip.title = on ? "Leave this face as it is" : "Retouch this face";
    });
  }
}
