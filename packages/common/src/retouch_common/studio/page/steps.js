// The list of steps, with undo and redo.

import { bindSlider } from "./controls.js";
import { byId, create } from "./dom.js";

// Time as ISO 8601, UTC, in seconds.
export const timestamp = () => new Date().toISOString().replace(/\.\d+Z$/, "+00:00");

export class Steps {
  #store;

  constructor(store) {
    this.#store = store; // its fields steps, undone, time and unsaved are used
  }

  // Add a step; with `merge` it replaces the last one if that is of the same kind.
  add(step, merge = false) {
    const steps = this.#store.get("steps");
    const kept = merge && sameKind(steps.at(-1), step) ? steps.slice(0, -1) : steps;
    this.#set([...kept, step], []);
  }

  // Undo or redo to the state after `count` steps.
  goTo(count) {
    const all = [...this.#store.get("steps"), ...this.#store.get("undone")];
    if (count >= 0 && count <= all.length) this.#set(all.slice(0, count), all.slice(count));
  }

  undo() {
    this.goTo(this.#store.get("steps").length - 1);
  }

  redo() {
    this.goTo(this.#store.get("steps").length + 1);
  }

  #set(steps, undone) {
    this.#store.set({ steps, undone, time: timestamp(), unsaved: true });
  }
}

// Show the steps as a list of buttons that undo or redo to them. titleOf(step): text of a button, which may depend on the
// store's state
export function bindStepList(store, steps, titleOf) {
  const list = byId("steps");
  store.subscribe(["steps", "undone", "state"], () => {
    const focused = [...list.querySelectorAll("button")].findIndex((button) => button.matches(":focus-visible"));
    const [done, undone] = [store.get("steps"), store.get("undone")];
    const rows = [["As found", 0], ...[...done, ...undone].map((step, index) => [titleOf(step), index + 1])];
    list.replaceChildren(
      ...rows.map(([title, count]) => {
        const button = create("button", { type: "button", textContent: title, onclick: () => steps.goTo(count) });
        if (count === done.length) button.setAttribute("aria-current", "step");
        return create("li", { className: count > done.length ? "undone" : "" }, button);
      }),
    );
    list.querySelectorAll("button")[focused]?.focus();
    byId("undo").disabled = !done.length;
    byId("redo").disabled = !undone.length;
    scrollToRow(list, list.querySelector("[aria-current]"));
  });
}

// Scroll a list, and nothing around it, to a row's button.
function scrollToRow(list, button) {
  const [{ top, bottom }, row] = [list.getBoundingClientRect(), button.getBoundingClientRect()];
  if (row.top < top) list.scrollTop -= top - row.top;
  else if (row.bottom > bottom) list.scrollTop += row.bottom - bottom;
}

// Record the changes of a slider as steps, one for each drag. step(value): the step
export function bindSliderSteps(input, steps, step) {
  let dragging = false;
  input.addEventListener("input", () => {
    steps.add(step(Number(input.value)), dragging);
    dragging = true;
  });
  input.addEventListener("change", () => (dragging = false));
}

// The slider of the strength in percent.
export function bindStrength(store, steps) {
  bindSlider("strength", store, (value) => `${value} %`);
  bindSliderSteps(byId("strength"), steps, (value) => ({ step: "strength", value: value / 100 }));
  store.subscribe(["steps"], () => {
    const last = store.get("steps").findLast(({ step }) => step === "strength");
    store.set({ strength: Math.round(100 * (last?.value ?? 1)) });
  });
}

const sameKind = (a, b) => a && ["step", "face", "name"].every((key) => a[key] === b[key]);
