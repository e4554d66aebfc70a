// Mouse, pen and touch input on the stage.
//
// A mouse's or pen's main button uses the tool; the middle button or Space moves the view, the right button or Alt
// picks. One finger uses the tool, two move and zoom and cancel the first one's stroke.

const PEN_ERASER = 32;

export class Pointer {
  constructor(stage, view, labels, store, actions) {
    Object.assign(this, { stage, view, labels, store, actions });
    this.touches = new Map();
    this.stroke = null;
    this.panning = null;
    this.space = false;
    this.hover = null;
    this.lastPoint = null; // end of the last stroke: Shift draws a straight line from there
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.#up(event));
    stage.addEventListener("pointerleave", () => this.#hovered(null));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  get tool() {
    return this.space ? "hand" : this.store.get("tool");
  }

  setSpace(held) {
    this.space = held;
    this.stage.dataset.tool = this.tool;
    this.showCursor();
  }

  #down(event) {
    if (!this.store.get("photo") || event.target.closest("button")) return;
    event.preventDefault();
    document.activeElement?.blur?.();
    this.stage.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") {
      this.touches.set(event.pointerId, [event.clientX, event.clientY]);
      if (this.touches.size > 1) {
        this.#cancelStroke();
        return;
      }
    }
    const point = this.view.point(event);
    if (event.button === 1 || this.tool === "hand") {
      this.panning = [event.clientX, event.clientY];
      this.stage.classList.add("panning");
    } else if (event.button === 2 || event.altKey || this.tool === "pick") {
      this.actions.pick(...point.map(Math.floor), this.tool === "pick");
    } else if (event.button === 0 || event.buttons & PEN_ERASER) {
      if (this.tool === "fill") this.actions.fill(...point.map(Math.floor));
      else this.#begin(event, point);
    }
  }

  #begin(event, point) {
    const erase = this.tool === "eraser" || event.buttons & PEN_ERASER;
    this.stroke = { id: event.pointerId, last: point, value: erase ? 0 : this.store.get("classIndex"), before: this.labels.data.slice() };
    this.#paint(event.shiftKey && this.lastPoint ? this.lastPoint : point, point);
  }

  #paint(from, to) {
    const box = this.labels.line(from, to, this.store.get("size"), this.stroke.value, this.store.get("over"));
    this.stroke.last = to;
    if (box) this.actions.painted(box);
  }

  #move(event) {
    if (event.pointerType === "touch" && this.touches.has(event.pointerId)) {
      if (this.touches.size > 1) {
        this.#pinch(event);
        return;
      }
      this.touches.set(event.pointerId, [event.clientX, event.clientY]);
    }
    if (this.panning) {
      this.view.pan(event.clientX - this.panning[0], event.clientY - this.panning[1]);
      this.panning = [event.clientX, event.clientY];
    } else if (this.stroke?.id === event.pointerId) {
      const between = event.getCoalescedEvents?.() ?? [];
      for (const moment of between.length ? between : [event]) this.#paint(this.stroke.last, this.view.point(moment));
    }
    this.#hovered(this.view.point(event));
  }

  #pinch(event) {
    const before = [...this.touches.values()];
    this.touches.set(event.pointerId, [event.clientX, event.clientY]);
    const after = [...this.touches.values()];
    const middle = ([[ax, ay], [bx, by]]) => [(ax + bx) / 2, (ay + by) / 2];
    const distance = ([[ax, ay], [bx, by]]) => Math.hypot(ax - bx, ay - by) || 1;
    const [[x0, y0], [x1, y1]] = [middle(before), middle(after)];
    const box = this.stage.getBoundingClientRect();
    this.view.pan(x1 - x0, y1 - y0);
    this.view.zoom(distance(after) / distance(before), x1 - box.left, y1 - box.top);
  }

  #up(event) {
    this.touches.delete(event.pointerId);
    this.panning = null;
    this.stage.classList.remove("panning");
    if (this.stroke?.id !== event.pointerId) return;
    if (event.type === "pointercancel") {
      this.#cancelStroke();
      return;
    }
    const { before, last } = this.stroke;
    this.stroke = null;
    this.lastPoint = last;
    this.actions.finished(before);
  }

  #cancelStroke() {
    if (!this.stroke) return;
    this.labels.data.set(this.stroke.before);
    this.stroke = null;
    this.actions.painted([0, 0, this.labels.size, this.labels.size]);
  }

  #wheel(event) {
    if (!this.store.get("photo")) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    if (event.shiftKey) {
      this.view.pan(-(event.deltaX || event.deltaY) * lines, 0);
      return;
    }
    const box = this.stage.getBoundingClientRect();
    const pinch = event.ctrlKey ? 4 : 1; // a touchpad pinch is sent as small wheel steps with Ctrl
    this.view.zoom(Math.exp((-event.deltaY * lines * pinch) / 500), event.clientX - box.left, event.clientY - box.top);
    this.#hovered(this.view.point(event));
  }

  #hovered(point) {
    this.hover = point;
    this.actions.hovered(point?.map(Math.floor) ?? null);
    this.showCursor();
  }

  showCursor() {
    const paints = ["brush", "eraser"].includes(this.tool) && this.store.get("photo") && this.hover;
    this.view.cursor(paints ? this.hover : null, this.store.get("size"));
  }
}
