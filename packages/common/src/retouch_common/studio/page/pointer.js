// Mouse, pen, touch and keyboard on the stage: panning, zooming, strokes of tools.
//
// The middle button, the tool `panTool`, or any tool while Space is held moves the view; other buttons start a stroke.
// Two fingers move and zoom, and cancel the stroke of the first one. When the stage has the focus, the arrow keys move the
// view, or the cursor of another tool (with Shift by small steps); Enter starts and ends its stroke, Escape cancels it.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PAN_STEP = 60; // of the view, in CSS pixels
const CURSOR_STEPS = [10, 1]; // of the cursor, without and with Shift, in CSS pixels
const BY_KEYBOARD = "keyboard"; // in place of the pointer's id of a stroke
const MAIN_BUTTON = { button: 0, buttons: 1, altKey: false };

export class Pointer {
  #touches = new Map(); // positions by pointer id
  #panning = null; // last position
  #space = false;
  stroke = null; // what a tool returned from onStart
  hover = null; // position in the photo, or null

  // viewport: a Viewport. Callbacks, all optional:
  //   onStart(event, tool, point): return an object, the stroke, or nothing if there is none
  //   onMove(stroke, point), onEnd(stroke, point), onCancel(stroke)
  //   onHover(point or null), onToolChange(): Space was pressed or released
  constructor(stage, viewport, store, panTool, callbacks = {}) {
    Object.assign(this, { stage, viewport, store, panTool, callbacks });
    store.subscribe(["tool"], () => (stage.dataset.tool = this.tool));
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.#up(event));
    stage.addEventListener("pointerleave", () => this.#setHover(null));
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("keydown", (event) => this.#key(event));
    stage.addEventListener("blur", () => this.stroke?.pointerId === BY_KEYBOARD && this.#cancel());
  }

  get tool() {
    return this.#space ? this.panTool : this.store.get("tool");
  }

  setSpace(held) {
    this.#space = held;
    this.stage.dataset.tool = this.tool;
    this.callbacks.onToolChange?.();
  }

  #down(event) {
    if (!this.store.get("photo") || event.target.closest("button, .divider")) return;
    this.stage.setPointerCapture(event.pointerId);
    if (this.stroke?.pointerId === BY_KEYBOARD) this.#cancel();
    if (event.pointerType === "touch") {
      this.#touches.set(event.pointerId, [event.clientX, event.clientY]);
      if (this.#touches.size > 1) {
        this.#panning = null;
        this.#cancel();
        return;
      }
    }
    if (event.button === 1 || this.tool === this.panTool) {
      this.#panning = [event.clientX, event.clientY];
      this.stage.classList.add("panning");
    } else {
      const stroke = this.callbacks.onStart?.(event, this.tool, this.viewport.point(event));
      this.stroke = stroke ? Object.assign(stroke, { pointerId: event.pointerId }) : null;
    }
  }

  #move(event) {
    if (this.#touches.has(event.pointerId)) {
      if (this.#touches.size > 1) {
        this.#pinch(event);
        return;
      }
      this.#touches.set(event.pointerId, [event.clientX, event.clientY]);
    }
    if (this.#panning) {
      this.viewport.pan(event.clientX - this.#panning[0], event.clientY - this.#panning[1]);
      this.#panning = [event.clientX, event.clientY];
    } else if (this.stroke?.pointerId === event.pointerId) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const moment of events.length ? events : [event]) this.callbacks.onMove?.(this.stroke, this.viewport.point(moment));
    }
    this.#setHover(this.viewport.point(event));
  }

  #pinch(event) {
    const before = [...this.#touches.values()];
    this.#touches.set(event.pointerId, [event.clientX, event.clientY]);
    const after = [...this.#touches.values()];
    const middle = ([[ax, ay], [bx, by]]) => [(ax + bx) / 2, (ay + by) / 2];
    const distance = ([[ax, ay], [bx, by]]) => Math.hypot(ax - bx, ay - by) || 1;
    const [[x0, y0], [x1, y1]] = [middle(before), middle(after)];
    const box = this.stage.getBoundingClientRect();
    this.viewport.pan(x1 - x0, y1 - y0);
    this.viewport.zoom(distance(after) / distance(before), x1 - box.left, y1 - box.top);
  }

  #up(event) {
    this.#touches.delete(event.pointerId);
    this.#panning = null;
    this.stage.classList.remove("panning");
    if (this.stroke?.pointerId !== event.pointerId) return;
    if (event.type === "pointercancel") {
      this.#cancel();
      return;
    }
    const { stroke } = this;
    this.stroke = null;
    this.callbacks.onEnd?.(stroke, this.viewport.point(event));
  }

  #cancel() {
    const { stroke } = this;
    this.stroke = null;
    if (stroke) this.callbacks.onCancel?.(stroke);
  }

  #wheel(event) {
    if (!this.store.get("photo")) return;
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    if (event.shiftKey) {
      this.viewport.pan(-(event.deltaX || event.deltaY) * lines, 0);
      return;
    }
    const box = this.stage.getBoundingClientRect();
    const pinch = event.ctrlKey ? 4 : 1; // a pinch on a touchpad is sent as small wheel steps with Ctrl
    this.viewport.zoom(Math.exp((-event.deltaY * lines * pinch) / 500), event.clientX - box.left, event.clientY - box.top);
    this.#setHover(this.viewport.point(event));
  }

  #key(event) {
    if (event.target !== this.stage || !this.store.get("photo")) return;
    const arrow = ARROWS[event.key];
    if (this.tool === this.panTool) {
      if (!arrow) return;
      this.viewport.pan(-PAN_STEP * arrow[0], -PAN_STEP * arrow[1]);
    } else if (arrow) {
      this.#moveCursor(arrow, CURSOR_STEPS[Number(event.shiftKey)]);
    } else if (event.key === "Enter") {
      this.#strokeByKey(event);
    } else if (event.key === "Escape") {
      this.#cancel();
    } else return;
    event.preventDefault();
  }

  #moveCursor([dx, dy], step) {
    const { viewport } = this;
    const [x, y] = this.hover ?? viewport.centre;
    const point = [x + (dx * step) / viewport.scale, y + (dy * step) / viewport.scale];
    viewport.reveal(...point);
    if (this.stroke) this.callbacks.onMove?.(this.stroke, point);
    this.#setHover(point);
  }

  #strokeByKey({ shiftKey }) {
    this.#setHover(this.hover ?? this.viewport.centre);
    if (this.stroke) {
      const { stroke } = this;
      this.stroke = null;
      this.callbacks.onEnd?.(stroke, this.hover);
    } else {
      const stroke = this.callbacks.onStart?.({ ...MAIN_BUTTON, shiftKey }, this.tool, this.hover);
      this.stroke = stroke ? Object.assign(stroke, { pointerId: BY_KEYBOARD }) : null;
    }
  }

  #setHover(point) {
    this.hover = point;
    this.callbacks.onHover?.(point);
  }
}
