// Keyboard shortcuts of the Restore tool.

export const KEYS = {
  help: [
    ["View", [
      ["C", "hold: the photo as it was"], ["wheel, +  −", "zoom"], ["Z, 1, G", "fit; pixel by pixel; the face"],
      ["arrows", "move the view"],
    ]],
    ["Files", [
      ["Ctrl + Z", "undo"], ["Ctrl + Shift + Z", "redo"], ["Ctrl + O", "open a photo"], ["Ctrl + S", "export the photo"],
      ["?", "this list"],
    ]],
  ],
  note: "Two fingers move and zoom. What is shown is an estimate, not evidence.",
  plain: { "+": "zoomIn", "=": "zoomIn", "-": "zoomOut", z: "fit", 1: "actualSize", g: "face" },
  held: { c: "hold" },
};
