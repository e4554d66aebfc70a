// A switch and a slider for each expert, with the router's certainty and the degree that was found.

import { filled } from "../shell/range.js";
import { sliderSteps } from "../shell/steps.js";

const DEGREES = 5;

export class Experts {
  // chosen(): index of the face; its operations are shown
  constructor(place, operations, steps, chosen) {
    this.rows = Object.fromEntries(operations.map((operation) => [operation.name, this.#row(operation, steps, chosen)]));
    place.append(...Object.values(this.rows).map(({ element }) => element));
  }

  show(operations) {
    for (const { name, probability, found, degree, share } of operations) {
      const { element, box, range, output, note } = this.rows[name];
      element.classList.toggle("found", found);
      box.checked = share > 0;
      range.value = Math.round(100 * share);
      output.value = `${range.value} %`;
      filled(range);
      const certainty = `${found ? "found" : "not found"}, ${Math.round(100 * (found ? probability : 1 - probability))} % certain`;
      note.textContent = `${certainty}; degree ${degree.toFixed(1)} of ${DEGREES}`;
    }
  }

  #row({ name, title }, steps, chosen) {
    const element = document.createElement("div");
    element.className = "expert";
    element.dataset.name = name;
    const box = Object.assign(document.createElement("input"), { type: "checkbox", id: `expert-${name}` });
    const label = Object.assign(document.createElement("label"), { htmlFor: box.id, textContent: title });
    const output = document.createElement("output");
    const range = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 100, step: 1 });
    range.setAttribute("aria-label", `${title}: how much of it is undone`);
    const note = Object.assign(document.createElement("p"), { className: "fine" });
    element.append(box, label, output, range, note);
    const step = (value) => ({ step: "share", face: chosen(), name, value });
    box.addEventListener("change", () => steps.add(step(box.checked ? 1 : 0)));
    sliderSteps(range, steps, (value) => step(value / 100));
    return { element, box, range, output, note };
  }
}
