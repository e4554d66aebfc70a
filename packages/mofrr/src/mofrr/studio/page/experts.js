// A checkbox and a slider for each expert, with the router's probability and the predicted degree.

import { updateTrack } from "../shell/controls.js";
import { create } from "../shell/dom.js";
import { bindSliderSteps } from "../shell/steps.js";

const DEGREES = 5;

export class Experts {
  // faceIndex(): index of the face whose operations are shown
  constructor(container, operations, steps, faceIndex) {
    this.rows = Object.fromEntries(operations.map((operation) => [operation.name, this.#buildRow(operation, steps, faceIndex)]));
    container.append(...Object.values(this.rows).map(({ element }) => element));
  }

  show(operations) {
    for (const { name, probability, found, degree, share } of operations) {
      const { element, checkbox, range, output, note } = this.rows[name];
      element.classList.toggle("found", found);
      checkbox.checked = share > 0;
      range.value = Math.round(100 * share);
      output.value = `${range.value} %`;
      updateTrack(range);
      const certainty = `${found ? "found" : "not found"}, ${Math.round(100 * (found ? probability : 1 - probability))} % certain`;
      note.textContent = found ? `${certainty}; degree ${degree.toFixed(1)} of ${DEGREES}` : certainty;
    }
  }

  #buildRow({ name, title }, steps, faceIndex) {
    const checkbox = create("input", { type: "checkbox", id: `expert-${name}` });
    const label = create("label", { htmlFor: checkbox.id, textContent: title });
    const output = create("output");
    const range = create("input", { type: "range", min: 0, max: 100, step: 1 });
    range.setAttribute("aria-label", `${title}: how much of it is undone`);
    const note = create("p", { className: "hint" });
    const element = create("div", { className: "expert" }, checkbox, label, output, range, note);
    element.dataset.name = name;
    const step = (value) => ({ step: "share", face: faceIndex(), name, value });
    checkbox.addEventListener("change", () => steps.add(step(checkbox.checked ? 1 : 0)));
    bindSliderSteps(range, steps, (value) => step(value / 100));
    return { element, checkbox, range, output, note };
  }
}
