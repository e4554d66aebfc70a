// Outlines over the photo: faces with a switch each, and removed blemishes, which a click or Enter brings back.

const SVG = "http://www.w3.org/2000/svg";
const node = (name, attributes) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
const MARGIN = 3; // screen pixels around a blemish

export class Marks {
  #focused = null; // "x,y" of the blemish that the keyboard is at

  // actions: toggle(blemish), toggleFace(number)
  constructor(svg, chips, viewport, actions) {
    Object.assign(this, { svg, chips, viewport, actions });
    this.blemishes = [];
    this.faces = [];
    this.outlined = false;
  }

  show(state, outlined) {
    this.faces = state?.faces ?? [];
    this.blemishes = [...(state?.blemishes ?? [])].sort((a, b) => a.face - b.face || a.at[1] - b.at[1]);
    this.outlined = outlined;
    this.#draw();
  }

  // Move the keyboard's focus to the next or previous blemish.
  walk(step) {
    if (!this.outlined || !this.blemishes.length) return;
    const now = this.blemishes.findIndex(({ at }) => String(at) === this.#focused);
    const next = now < 0 ? (step > 0 ? 0 : this.blemishes.length - 1) : now + step;
    const blemish = this.blemishes[(next + this.blemishes.length) % this.blemishes.length];
    this.#focused = String(blemish.at);
    this.viewport.reveal(...blemish.at);
    this.#draw();
    this.#element()?.focus();
  }

  #element() {
    return this.svg.querySelector(`[data-at="${this.#focused}"]`);
  }

  place() {
    const { scale, x, y, stage } = this.viewport;
    this.svg.setAttribute("viewBox", [-x / scale, -y / scale, stage.clientWidth / scale, stage.clientHeight / scale].join(" "));
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.faces.forEach(({ box }, number) => {
      const chip = this.chips.children[number];
      if (chip) chip.style.transform = `translate(${x + box[0] * scale}px, ${y + box[1] * scale - 24}px)`;
    });
    for (const ellipse of this.svg.querySelectorAll("ellipse")) {
      ellipse.setAttribute("rx", Number(ellipse.dataset.rx) + MARGIN / scale);
      ellipse.setAttribute("ry", Number(ellipse.dataset.ry) + MARGIN / scale);
    }
  }

  #draw() {
    const hadFocus = this.svg.contains(document.activeElement);
    const rectangles = this.faces.map(({ box: [x, y, width, height], on }) =>
      node("rect", { class: `face${on ? "" : " off"}`, x, y, width, height, rx: width / 20 }));
    const outlines = this.outlined ? this.blemishes.map((blemish, index) => this.#blemish(blemish, index)) : [];
    this.svg.replaceChildren(...rectangles, ...outlines);
    this.#showChips();
    this.place();
    if (hadFocus) this.#element()?.focus();
  }

  #blemish(blemish, index) {
    const [x, y, w, h] = blemish.box;
    const at = String(blemish.at);
    const tabbable = this.#focused === null || !this.blemishes.some((one) => String(one.at) === this.#focused)
      ? index === 0
      : at === this.#focused;
    const group = node("g", {
      class: "blemish", role: "checkbox", tabindex: tabbable ? 0 : -1, "data-at": at, "aria-checked": blemish.on,
      "aria-label": `Blemish ${index + 1} of ${this.blemishes.length}, ${blemish.size}, ${blemish.on ? "removed" : "brought back"}`,
    });
    const middle = { cx: x + w / 2, cy: y + h / 2, "data-rx": w / 2, "data-ry": h / 2 };
    group.append(node("ellipse", { class: "under", ...middle }), node("ellipse", middle));
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
    while (this.chips.children.length > this.faces.length) this.chips.lastElementChild.remove();
    this.faces.forEach(({ on }, number) => {
      let chip = this.chips.children[number];
      if (!chip) {
        chip = Object.assign(document.createElement("button"), { type: "button", className: "face-chip", textContent: `Face ${number + 1}` });
        chip.addEventListener("pointerdown", (event) => event.stopPropagation());
        chip.addEventListener("click", () => this.actions.toggleFace(number));
        this.chips.append(chip);
      }
      chip.setAttribute("aria-pressed", on);
      chip.title = on ? "Leave this face as it is" : "Retouch this face";
    });
  }
}
