// Canvases over the stage.

// Fit a canvas to the stage and clear it; return its context, in CSS pixels.
export function fitCanvas(canvas, { clientWidth, clientHeight }) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(clientWidth * ratio);
  canvas.height = Math.round(clientHeight * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

// Stroke the current path in white on black, visible on any photo.
export function strokeCursor(context) {
  for (const [width, colour] of [[3, "rgb(0 0 0 / 0.65)"], [1.25, "#fff"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }
}
