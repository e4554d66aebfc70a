// Keyboard shortcuts of the Retouch tool.

export const KEYS = {
  help: [
    ["Retouch", [
      ["V", "select and move"], ["B", "protect brush"], ["E", "restore brush"], ["F", "frame a face"],
      ["[  ]", "smaller, larger brush"], ["arrows, Enter", "move the brush or frame; start, end it"], ["N, P", "next, previous place"], ["Enter", "bring it back, or change it again"],
      ["O", "outline the changes"], ["A", "next overlay"],
    ]],
    ["View and files", [
      ["Ctrl + Z", "undo"], ["Ctrl + Shift + Z", "redo"], ["C", "hold: the photo as it was"],
      ["wheel, +  −", "zoom"], ["Z, 1, G", "fit; pixel by pixel; next face"], ["arrows, Space", "move the view"],
      ["Ctrl + O", "open a photo"], ["Ctrl + S", "export the photo"], ["Ctrl + Shift + S", "save the recipe"],
    ]],
  ],
  note: "Two fingers move and zoom. Every step can be undone; the photo's file is never changed.",
  command: { "shift+s": "saveRecipe" },
  plain: {
    v: ["tool", "pick"], b: ["tool", "protect"], e: ["tool", "restore"], f: ["tool", "frame"],
    "[": ["radius", -1], "]": ["radius", 1], n: ["moveFocus", 1], p: ["moveFocus", -1], o: "outlines", a: "nextOverlay",
    "+": "zoomIn", "=": "zoomIn", "-": "zoomOut", z: "fit", 1: "actualSize", g: "face",
  },
  held: { " ": "space", c: "hold" },
};
