// The source photo of each component's appearance and its weight. The first row applies to all components.

import { faceAddress } from "./api.js";
import { filled } from "../shell/range.js";

const ROWS = {
  all: { title: "All", view: [128, 132, 236] }, // centre and side of its thumbnail, in 256ths of the face
  eye_left: { title: "Left eye", view: [99, 116, 62] },
  eye_right: { title: "Right eye", view: [156, 116, 62] },
  mouth: { title: "Mouth", view: [127, 181, 86] },
  skin: { title: "Skin", view: [127, 150, 120] },
  hair: { title: "Hair", view: [128, 62, 124] },
};
const ANOTHER = "another";

export class Sources {
  // changed(): after an assignment; open(file, later): description or null; choose(): promise of a file or null
  constructor(place, components, { changed, open, choose }) {
    Object.assign(this, { components, changed, open, choose });
    this.photos = [];
    this.own = null;
    this.slots = Object.fromEntries(components.map((name) => [name, { photo: null, amount: 1 }]));
    this.rows = Object.fromEntries(["all", ...components].map((name) => [name, this.#row(name)]));
    place.append(...Object.values(this.rows).map((row) => row.element));
    this.#show();
  }

  // The edit's `parts` for the server.
  get parts() {
    const shows = (id, name) => this.photos.find((photo) => photo.id === id)?.present[name] !== false;
    const lent = Object.entries(this.slots).filter(([name, { photo, amount }]) => photo && amount > 0 && shows(photo, name));
    return Object.fromEntries(lent.map(([name, { photo, amount }]) => [name, { photo, amount }]));
  }

  // Called when another photo is edited; the sources stay.
  setOwn(own) {
    this.own = own;
    this.#show();
  }

  add(photo) {
    this.photos.push(photo);
    this.#show();
  }

  assign(name, photo, amount = null) {
    for (const component of name === "all" ? this.components : [name]) {
      const slot = this.slots[component];
      slot.photo = photo;
      slot.amount = amount ?? (slot.amount || 1);
    }
    this.#show();
    this.changed();
  }

  // Called when the server has closed photos.
  forget(ids) {
    this.photos = this.photos.filter(({ id }) => !ids.includes(id));
    for (const slot of Object.values(this.slots)) if (ids.includes(slot.photo)) slot.photo = null;
    this.#show();
  }

  async #another(name) {
    const file = await this.choose();
    if (file) await this.take(name, file);
    this.#show();
  }

  // Open a file, chosen or dropped, for a row.
  async take(name, file) {
    this.rows[name].element.classList.add("loading");
    try {
      const photo = await this.open(file, (opened) => this.#lend(name, opened));
      if (photo) this.#lend(name, photo);
    } finally {
      this.rows[name].element.classList.remove("loading");
    }
  }

  #lend(name, photo) {
    this.add(photo);
    this.assign(name, photo.id);
  }

  #row(name) {
    const { title } = ROWS[name] ?? { title: name };
    const element = document.createElement("div");
    element.className = "slot";
    element.dataset.component = name;
    const thumb = Object.assign(document.createElement("button"), { type: "button", className: "thumb" });
    thumb.title = "Choose a photo, or drop one here";
    thumb.setAttribute("aria-label", `${title}: choose a photo`);
    const caption = Object.assign(document.createElement("span"), { className: "caption", textContent: title });
    const select = document.createElement("select");
    select.setAttribute("aria-label", `${title}: photo`);
    const range = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 100, step: 1 });
    range.setAttribute("aria-label", `${title}: how much of it`);
    const share = document.createElement("output");
    const note = Object.assign(document.createElement("span"), { className: "note" });
    element.append(thumb, caption, select, range, share, note);
    thumb.addEventListener("click", () => this.#another(name));
    select.addEventListener("change", () => {
      if (select.value === ANOTHER) this.#another(name);
      else if (select.value !== "mixed") this.assign(name, select.value || null);
      select.blur();
    });
    range.addEventListener("input", () => {
      for (const component of name === "all" ? this.components : [name]) this.slots[component].amount = range.value / 100;
      this.#show();
      this.changed();
    });
    return { element, thumb, select, range, share, note };
  }

  #show() {
    for (const [name, row] of Object.entries(this.rows)) {
      const slots = name === "all" ? Object.values(this.slots) : [this.slots[name]];
      const photo = slots.every((slot) => slot.photo === slots[0].photo) ? slots[0].photo : "mixed";
      const amounts = slots.map((slot) => slot.amount);
      const source = this.photos.find(({ id }) => id === photo);
      row.select.replaceChildren(
        new Option("this photo", ""),
        ...this.photos.map(({ id, name: title }) => new Option(title, id)),
        new Option("another photo…", ANOTHER),
      );
      if (photo === "mixed") row.select.prepend(new Option("several", "mixed"));
      row.select.value = photo ?? "";
      row.select.title = source?.name ?? "";
      row.element.classList.toggle("lent", photo !== null);
      row.range.disabled = photo === null;
      row.range.value = photo === null ? 0 : Math.round((100 * amounts.reduce((a, b) => a + b)) / amounts.length);
      row.share.value = photo === null ? "" : amounts.every((a) => a === amounts[0]) ? `${row.range.value} %` : "";
      filled(row.range);
      const shown = source?.id ?? this.own?.id;
      row.thumb.style.backgroundImage = shown ? `url("${faceAddress(shown)}")` : "none";
      const [x, y, side] = ROWS[name]?.view ?? ROWS.all.view;
      row.thumb.style.backgroundSize = `${(100 * 256) / side}%`;
      const along = (middle) => `${Math.min(100, Math.max(0, (100 * (middle - side / 2)) / (256 - side)))}%`;
      row.thumb.style.backgroundPosition = `${along(x)} ${along(y)}`;
      const lacks = name !== "all" && source && source.present[name] === false;
      row.note.textContent = lacks ? `that photo shows no ${ROWS[name].title.toLowerCase()}` : "";
    }
  }
}
