// Pointer of the Edit tool: paints on the mask.
//
// The right button or Alt picks a class, Shift draws a straight line from the last stroke, a pen's eraser end erases.

import { Pointer } from "../shell/pointer.js";

const PEN_ERASER = 32; // in PointerEvent.buttons

export class MaskPointer extends Pointer {
  lastPoint = null; // end of the last stroke

  // actions: painted(), finished(labels before), pick(x, y, whether by the tool), fill(x, y), hovered([x, y] or null)
  constructor(stage, view, labels, store, actions) {
    super(stage, view, store, "hand", {
      onStart: (event, tool, point) => this.#start(event, tool, point),
      onMove: (stroke, point) => this.#paint(stroke, stroke.last, point),
      onEnd: (stroke) => {
        this.lastPoint = stroke.last;
        actions.finished(stroke.before);
      },
      onCancel: (stroke) => {
        labels.data.set(stroke.before);
        actions.painted();
      },
      onHover: (point) => {
        actions.hovered(point?.map(Math.floor) ?? null);
        this.showCursor();
      },
      onToolChange: () => this.showCursor(),
    });
    Object.assign(this, { labels, actions });
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  #start(event, tool, point) {
    const pixel = point.map(Math.floor);
    if (event.button === 2 || event.altKey || tool === "pick") {
      this.actions.pick(...pixel, tool === "pick");
    } else if (event.button === 0 || event.buttons & PEN_ERASER) {
      if (tool !== "fill") return this.#begin(event, tool, point);
      this.actions.fill(...pixel);
    }
    return null;
  }

  #begin(event, tool, point) {
    const erase = tool === "eraser" || event.buttons & PEN_ERASER;
    const stroke = { value: erase ? 0 : this.store.get("classIndex"), before: this.labels.data.slice() };
    this.#paint(stroke, event.shiftKey && this.lastPoint ? this.lastPoint : point, point);
    return stroke;
  }

  #paint(stroke, from, to) {
    this.labels.line(from, to, this.store.get("size"), stroke.value, this.store.get("over"));
    stroke.last = to;
    this.actions.painted();
  }

  showCursor() {
    const paints = ["brush", "eraser"].includes(this.tool) && this.store.get("photo") && this.hover;
    this.viewport.drawCursor(paints ? this.hover : null, this.store.get("size"));
  }
}
