// Canvases of protected areas and of the cursor: the brush's outline or the frame that is being drawn.

import { fitCanvas, strokeCursor } from "../shell/canvas.js";

const PROTECTED = "rgb(227 184 104 / 0.42)";

export class Painting {
  constructor(strokes, cursor, viewport) {
    Object.assign(this, { strokes, cursor, viewport });
  }

  // steps: of the recipe; current: the stroke being drawn, or null; visible: whether to show protected areas
  draw(steps, current, radius, visible) {
    const context = fitCanvas(this.strokes, this.viewport.stage);
    if (!visible) return;
    for (const step of steps) if (step.step === "protect" || step.step === "restore") this.#stroke(context, step);
    if (current && current.tool !== "frame") this.#stroke(context, { step: current.tool, radius, points: current.points });
  }

  // tool: of the pointer; point: position in the photo, or null
  drawCursor(tool, point, radius, current) {
    const context = fitCanvas(this.cursor, this.viewport.stage);
    if (!point) return;
    const { scale, x, y } = this.viewport;
    context.beginPath();
    if (tool === "frame" && current) {
      const [left, top, width, height] = frameOf(current.points[0], point);
      context.rect(x + left * scale, y + top * scale, width * scale, height * scale);
    } else if (tool === "protect" || tool === "restore") {
      context.arc(x + point[0] * scale, y + point[1] * scale, Math.max(1, radius * scale), 0, 2 * Math.PI);
    } else return;
    strokeCursor(context);
  }

  #stroke(context, { step, radius, points }) {
    const { scale, x, y } = this.viewport;
    // A stroke replaces what is below it, so that overlaps are not darker.
    for (const operation of ["destination-out", ...(step === "protect" ? ["source-over"] : [])]) {
      context.globalCompositeOperation = operation;
      context.strokeStyle = operation === "source-over" ? PROTECTED : "#000";
      context.lineWidth = 2 * radius * scale;
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      points.forEach(([px, py]) => context.lineTo(x + px * scale, y + py * scale));
      if (points.length === 1) context.lineTo(x + points[0][0] * scale + 0.01, y + points[0][1] * scale);
      context.stroke();
    }
    context.globalCompositeOperation = "source-over";
  }
}

// The box [x, y, w, h] between two corners.
export const frameOf = ([ax, ay], [bx, by]) => [Math.min(ax, bx), Math.min(ay, by), Math.abs(ax - bx), Math.abs(ay - by)];
