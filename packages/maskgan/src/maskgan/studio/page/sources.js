// The source photo of each component's appearance and its weight. The first row applies to all components.

import { updateTrack } from "../shell/controls.js";
import { create } from "../shell/dom.js";
import { faceUrl } from "./api.js";

const ROWS = {
  all: { title: "All", view: [128, 132, 236] }, // centre and side of its thumbnail, in 256ths of the face
  eye_left: { title: "Left eye", view: [99, 116, 62] },
  eye_right: { title: "Right eye", view: [156, 116, 62] },
  mouth: { title: "Mouth", view: [127, 181, 86] },
  skin: { title: "Skin", view: [127, 150, 120] },
  hair: { title: "Hair", view: [128, 62, 124] },
};
const OTHER_PHOTO = "other";

export class Sources {
  // onChange(): called after an assignment; open(file, onOpened): promise of a description or null; choose(): of a file or null
  constructor(container, components, { onChange, open, choose }) {
    Object.assign(this, { components, onChange, open, choose });
    this.photos = [];
    this.own = null;
    this.slots = Object.fromEntries(components.map((name) => [name, { photo: null, amount: 1 }]));
    this.rows = Object.fromEntries(["all", ...components].map((name) => [name, this.#buildRow(name)]));
    container.append(...Object.values(this.rows).map((row) => row.element));
    this.#update();
  }

  // The edit's `parts` for the server.
  get parts() {
    const shows = (id, name) => this.photos.find((photo) => photo.id === id)?.present[name] !== false;
    const assigned = Object.entries(this.slots).filter(([name, { photo, amount }]) => photo && amount > 0 && shows(photo, name));
    return Object.fromEntries(assigned.map(([name, { photo, amount }]) => [name, { photo, amount }]));
  }

  // Photos and assignments, as JSON has them.
  get kept() {
    return { photos: this.photos, slots: this.slots };
  }

  set kept({ photos, slots }) {
    Object.assign(this, { photos, slots });
    this.#update();
  }

  // Set the edited photo; the sources stay.
  setOwn(own) {
    this.own = own;
    this.#update();
  }

  add(photo) {
    this.photos.push(photo);
    this.#update();
  }

  assign(name, photo, amount = null) {
    for (const component of name === "all" ? this.components : [name]) {
      const slot = this.slots[component];
      slot.photo = photo;
      slot.amount = amount ?? (slot.amount || 1);
    }
    this.#update();
    this.onChange();
  }

  // Remove photos that the server has closed.
  forget(ids) {
    this.photos = this.photos.filter(({ id }) => !ids.includes(id));
    for (const slot of Object.values(this.slots)) if (ids.includes(slot.photo)) slot.photo = null;
    this.#update();
  }

  async #chooseFor(name) {
    const file = await this.choose();
    if (file) await this.openFor(name, file);
    this.#update();
  }

  // Open a file for a row.
  async openFor(name, file) {
    this.rows[name].element.classList.add("loading");
    try {
      const photo = await this.open(file, (opened) => this.#addTo(name, opened));
      if (photo) this.#addTo(name, photo);
    } finally {
      this.rows[name].element.classList.remove("loading");
    }
  }

  #addTo(name, photo) {
    this.add(photo);
    this.assign(name, photo.id);
  }

  #buildRow(name) {
    const { title } = ROWS[name] ?? { title: name };
    const thumb = create("button", { type: "button", className: "thumb", title: "Choose a photo, or drop one here" });
    thumb.setAttribute("aria-label", `${title}: choose a photo`);
    const caption = create("span", { className: "caption", textContent: title });
    const select = create("select");
    select.setAttribute("aria-label", `${title}: photo`);
    const range = create("input", { type: "range", min: 0, max: 100, step: 1 });
    range.setAttribute("aria-label", `${title}: how much of it`);
    const output = create("output");
    const note = create("span", { className: "note" });
    const element = create("div", { className: "slot" }, thumb, caption, select, range, output, note);
    element.dataset.component = name;
    thumb.addEventListener("click", () => this.#chooseFor(name));
    select.addEventListener("change", () => {
      if (select.value === OTHER_PHOTO) this.#chooseFor(name);
      else if (select.value !== "mixed") this.assign(name, select.value || null);
      select.blur();
    });
    range.addEventListener("input", () => {
      for (const component of name === "all" ? this.components : [name]) this.slots[component].amount = range.value / 100;
      this.#update();
      this.onChange();
    });
    return { element, thumb, select, range, output, note };
  }

  #update() {
    for (const [name, row] of Object.entries(this.rows)) {
      const slots = name === "all" ? Object.values(this.slots) : [this.slots[name]];
      const photo = slots.every((slot) => slot.photo === slots[0].photo) ? slots[0].photo : "mixed";
      const amounts = slots.map((slot) => slot.amount);
      const source = this.photos.find(({ id }) => id === photo);
      row.select.replaceChildren(
        new Option("this photo", ""),
        ...this.photos.map(({ id, name: title }) => new Option(title, id)),
        new Option("another photo…", OTHER_PHOTO),
      );
      if (photo === "mixed") row.select.prepend(new Option("several", "mixed"));
      row.select.value = photo ?? "";
      row.select.title = source?.name ?? "";
      row.element.classList.toggle("assigned", photo !== null);
      row.range.disabled = photo === null;
      row.range.value = photo === null ? 0 : Math.round((100 * amounts.reduce((a, b) => a + b)) / amounts.length);
      row.output.value = photo === null ? "" : amounts.every((a) => a === amounts[0]) ? `${row.range.value} %` : "";
      updateTrack(row.range);
      const shown = source?.id ?? this.own?.id;
      row.thumb.style.backgroundImage = shown ? `url("${faceUrl(shown)}")` : "none";
      const [x, y, side] = ROWS[name]?.view ?? ROWS.all.view;
      row.thumb.style.backgroundSize = `${(100 * 256) / side}%`;
      const offset = (centre) => `${Math.min(100, Math.max(0, (100 * (centre - side / 2)) / (256 - side)))}%`;
      row.thumb.style.backgroundPosition = `${offset(x)} ${offset(y)}`;
      const isMissing = name !== "all" && source && source.present[name] === false;
      row.note.textContent = isMissing ? `that photo shows no ${ROWS[name].title.toLowerCase()}` : "";
    }
  }
}
