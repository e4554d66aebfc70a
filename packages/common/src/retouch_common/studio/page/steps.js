// A list of steps with undo and redo: the one record of what was done.

export class Steps {
  #store;

  constructor(store) {
    this.#store = store; // with steps, undone and time
  }

  // Add a step; with `merge` it replaces the last one, of the same slider.
  add(step, merge = false) {
    const steps = this.#store.get("steps");
    const kept = merge && sameKind(steps.at(-1), step) ? steps.slice(0, -1) : steps;
    this.#set([...kept, step], []);
  }

  // Go to the state after `count` steps, those undone included.
  go(count) {
    const all = [...this.#store.get("steps"), ...this.#store.get("undone")];
    if (count >= 0 && count <= all.length) this.#set(all.slice(0, count), all.slice(count));
  }

  undo() {
    this.go(this.#store.get("steps").length - 1);
  }

  redo() {
    this.go(this.#store.get("steps").length + 1);
  }

  #set(steps, undone) {
    this.#store.set({ steps, undone, time: new Date().toISOString().replace(/\.\d+Z$/, "+00:00"), unsaved: true });
  }
}

// The list in the panel: a button for every step, which leads back, or forward, to it.
// titleOf(step): its text
export function showSteps(list, store, steps, titleOf) {
  store.follow(["steps", "undone"], () => {
    const [done, undone] = [store.get("steps"), store.get("undone")];
    const rows = [["As found", 0], ...[...done, ...undone].map((step, index) => [titleOf(step), index + 1])];
    list.replaceChildren(
      ...rows.map(([title, count]) => {
        const row = document.createElement("li");
        row.classList.toggle("undone", count > done.length);
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: title });
        if (count === done.length) button.setAttribute("aria-current", "step");
        button.addEventListener("click", () => steps.go(count));
        row.append(button);
        return row;
      }),
    );
    list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  });
}

// A slider whose drag is one step. step(value): the step
export function sliderSteps(input, steps, step) {
  let dragging = false;
  input.addEventListener("input", () => {
    steps.add(step(Number(input.value)), dragging);
    dragging = true;
  });
  input.addEventListener("change", () => (dragging = false));
}

const sameKind = (a, b) => a && ["step", "face", "name"].every((key) => a[key] === b[key]);
