// Keyboard shortcuts of the Edit tool.

export const KEYS = {
  help: [
    ["Paint", [
      ["B", "brush"], ["E", "eraser"], ["G", "fill"], ["I", "pick the class under the pointer"],
      ["0 – 9, H", "class: background, skin, … lower lip; hair"], ["X", "the class used before"],
      ["[  ]", "smaller, larger brush"], ["L", "paint only over the class under the pointer"],
      ["arrows, Enter", "move the brush; start and end a stroke"],
      ["Shift + click, Enter", "straight line from the last stroke"], ["Alt, right button", "pick"],
    ]],
    ["View and files", [
      ["Ctrl + Z", "undo"], ["Ctrl + Shift + Z", "redo"], ["wheel, +  −", "zoom"], ["Z", "fit the view"],
      ["Space, V, middle button", "move the view"], ["N", "next face of the photo"], ["M", "show or hide the mask"], ["C", "hold: the face as it was"],
      ["Ctrl + O", "open a photo"], ["Ctrl + S", "export the photo"], ["?", "this list"],
    ]],
  ],
  note: "Left and right are the picture's. Two fingers move and zoom; a pen's eraser end paints background.",
  plain: {
    b: "brush", e: "eraser", g: "fill", f: "fill", i: "pick", v: "hand", x: "lastClass", l: "limitToClass", m: "mask", n: "nextFace", z: "fit",
    "[": "smaller", "]": "larger", "+": "zoomIn", "=": "zoomIn", "-": "zoomOut", h: ["selectClass", 10],
    ...Object.fromEntries([...Array(10).keys()].map((index) => [String(index), ["selectClass", index]])),
  },
  held: { " ": "space", c: "compare" },
};

const BRUSHES = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64];

// The next larger (step 1) or smaller (step -1) brush size.
export function nextBrushSize(size, step) {
  if (step > 0) return BRUSHES.find((other) => other > size) ?? BRUSHES.at(-1);
  return BRUSHES.findLast((other) => other < size) ?? BRUSHES[0];
}
