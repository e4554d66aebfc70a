// Mouse, pen and touch on the stage: moving the view, brush strokes, a frame around a face.
//
// The main button uses the tool, the middle button or Space moves the view; two touches move and zoom.

const MIN_DISTANCE = 1.5; // between points of a stroke, in CSS pixels

export class Pointer {
  // actions: stroke(tool, points), framed(box), drawing(), hovered(point)
  constructor(stage, viewport, store, actions) {
    Object.assign(this, { stage, viewport, store, actions });
    this.touches = new Map();
    this.stroke = null; // {id, tool, points}
    this.panning = null;
    this.space = false;
    this.hover = null;
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.#up(event));
    stage.addEventListener("pointerleave", () => this.#hovered(null));
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("keydown", (event) => this.#arrow(event));
  }

  get tool() {
    return this.space ? "pick" : this.store.get("tool");
  }

  setSpace(held) {
    this.space = held;
    this.stage.dataset.tool = this.tool;
    this.actions.drawing();
  }

  #down(event) {
    if (!this.store.get("photo") || event.target.closest("button, .divider")) return;
    this.stage.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") {
      this.touches.set(event.pointerId, [event.clientX, event.clientY]);
      if (this.touches.size > 1) {
        this.stroke = this.panning = null;
        this.actions.drawing();
        return;
      }
    }
    if (event.button === 1 || this.tool === "pick") {
      this.panning = [event.clientX, event.clientY];
      this.stage.classList.add("panning");
    } else if (event.button === 0) {
      this.stroke = { id: event.pointerId, tool: this.tool, points: [this.viewport.point(event)] };
      this.actions.drawing();
    }
  }

  #move(event) {
    if (this.touches.has(event.pointerId)) {
      if (this.touches.size > 1) {
        this.#pinch(event);
        return;
      }
      this.touches.set(event.pointerId, [event.clientX, event.clientY]);
    }
    if (this.panning) {
      this.viewport.pan(event.clientX - this.panning[0], event.clientY - this.panning[1]);
      this.panning = [event.clientX, event.clientY];
    } else if (this.stroke?.id === event.pointerId) {
      const between = event.getCoalescedEvents?.() ?? [];
      for (const moment of between.length ? between : [event]) this.#extend(this.viewport.point(moment));
    }
    this.#hovered(this.viewport.point(event));
  }

  #extend(point) {
    const last = this.stroke.points.at(-1);
    const far = Math.hypot(point[0] - last[0], point[1] - last[1]) * this.viewport.scale >= MIN_DISTANCE;
    if (far) this.stroke.points.push(point);
  }

  #pinch(event) {
    const before = [...this.touches.values()];
    this.touches.set(event.pointerId, [event.clientX, event.clientY]);
    const after = [...this.touches.values()];
    const middle = ([[ax, ay], [bx, by]]) => [(ax + bx) / 2, (ay + by) / 2];
    const distance = ([[ax, ay], [bx, by]]) => Math.hypot(ax - bx, ay - by) || 1;
    const [[x0, y0], [x1, y1]] = [middle(before), middle(after)];
    const box = this.stage.getBoundingClientRect();
    this.viewport.pan(x1 - x0, y1 - y0);
    this.viewport.zoom(distance(after) / distance(before), x1 - box.left, y1 - box.top);
  }

  #up(event) {
    this.touches.delete(event.pointerId);
    this.panning = null;
    this.stage.classList.remove("panning");
    if (this.stroke?.id !== event.pointerId) return;
    const { tool, points } = this.stroke;
    this.stroke = null;
    if (event.type === "pointerup") {
      if (tool === "frame") this.actions.framed(frameOf(points[0], this.viewport.point(event)));
      else this.actions.stroke(tool, points);
    }
    this.actions.drawing();
  }

  #wheel(event) {
    if (!this.store.get("photo")) return;
    event.preventDefault();
    const box = this.stage.getBoundingClientRect();
    this.viewport.zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }

  #arrow(event) {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (!step || event.target !== this.stage || !this.store.get("photo")) return;
    event.preventDefault();
    this.viewport.pan(...step);
  }

  #hovered(point) {
    this.hover = point;
    this.actions.hovered(point);
  }
}

export const frameOf = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by)];
