// The Edit tool: connects its parts.

import { about as aboutTool, openPhoto as openFile } from "../shell/api.js";
import { Compare } from "../shell/compare.js";
import { acceptDrops, chooseFile, download } from "../shell/files.js";
import { buildHelp, listen } from "../shell/keys.js";
import { LiveRender } from "../shell/live.js";
import { busyWith, byId, failed as refused, followPhoto, notice, startFile, wire } from "../shell/shell.js";
import { Store } from "../shell/store.js";
import * as api from "./api.js";
import { History } from "./history.js";
import { KEYS, otherSize } from "./keys.js";
import { Labels } from "./labels.js";
import { Pointer } from "./pointer.js";
import { Sources } from "./sources.js";
import { buildTools, choose, titleOf } from "./tools.js";
import { View } from "./view.js";

const about = await busyWith("Loading the network", aboutTool).catch((error) => {
  notice.error(error.message);
  throw error;
});

const store = new Store({
  photo: null, // description of the edited photo
  tool: "brush",
  klass: about.classes.indexOf("hair"),
  lastClass: 1,
  size: Math.max(1, Math.round(about.size / 21)),
  over: null,
  opacity: 55,
  maskShown: true,
  view: "photo",
  unsaved: false,
});

const labels = new Labels(about.size);
let ownLabels = labels.data.slice(); // the photo's original mask
const view = new View(byId("stage"), byId("world"), byId("labels"), byId("cursor"), labels, about.colours);
const compare = new Compare(byId("result"), byId("divider"), byId("before"));
const history = new History(labels, (box) => {
  if (box) {
    view.draw(box);
    live.changed();
    store.set({ unsaved: true });
  }
  byId("undo").disabled = !history.canUndo;
  byId("redo").disabled = !history.canRedo;
});

// --- live rendering

const edit = () => {
  const photo = store.get("photo");
  return photo && { photo: photo.id, labels: labels.data, parts: sources.parts, view: store.get("view") };
};

const live = new LiveRender(api.render, edit, {
  async shown(answer, milliseconds, revision) {
    const picture = new Image();
    picture.src = `data:image/png;base64,${answer.image}`;
    await picture.decode();
    byId("after").src = picture.src;
    byId("latency").textContent = `${Math.round(milliseconds)} ms`;
    byId("latency").title = `${answer.milliseconds} ms of them in the network`;
    Object.assign(byId("result").dataset, { state: "ready", revision });
    byId("warnings").replaceChildren(...answer.warnings.map(warning));
  },
  failed(error) {
    byId("result").dataset.state = "failed";
    failed(error);
  },
  busy(busy) {
    byId("latency").classList.toggle("busy", busy);
  },
});

function warning(line) {
  const row = document.createElement("li");
  row.innerHTML = '<svg aria-hidden="true"><use href="#i-warn"/></svg>'; // no user text
  row.append(line[0].toUpperCase() + line.slice(1));
  return row;
}

// --- photos

function failed(error, retry = null) {
  refused(error, error.hints?.aligned && retry ? ["Open it as a picture that the face fills", retry] : null);
  if (error.status === 404) sources.forget(sources.photos.map(({ id }) => id));
}

const opened = (file, aligned) => openFile(file, about.upload_bytes, { aligned: aligned ? "1" : "0" });

async function openPhoto(file, aligned = false) {
  if (store.get("unsaved") && !aligned && !window.confirm("Open another photo? The mask you painted has not been saved.")) return;
  notice.clear();
  try {
    await show(await busyWith(`Finding the face${file.name ? ` in ${file.name}` : ""}`, () => opened(file, aligned)));
  } catch (error) {
    failed(error, () => openPhoto(file, true));
  }
}

async function show(photo) {
  const mask = await api.photoLabels(photo.id);
  labels.data.set(mask);
  ownLabels = mask;
  pointer.lastPoint = null;
  delete document.body.dataset.empty;
  byId("welcome").hidden = true;
  byId("after").src = byId("before").src = byId("face").src = api.faceAddress(photo.id);
  byId("result").dataset.state = "waiting";
  compare.set(0);
  view.draw();
  view.fit();
  store.set({ photo, unsaved: false });
  sources.setOwn(photo);
  history.clear();
  live.changed();
}

followPhoto(store);

const sources = new Sources(byId("slots"), about.components, {
  changed: () => live.changed(),
  choose: () => chooseFile(byId("photo-file")),
  // a photo without a face can still be opened by the notice's button
  async open(file, later, aligned = false) {
    try {
      return await opened(file, aligned);
    } catch (error) {
      failed(error, () => opened(file, true).then(later, failed));
      return null;
    }
  },
});

// --- painting

const pointer = new Pointer(byId("stage"), view, labels, store, {
  painted(box) {
    view.draw(box);
    live.changed();
  },
  finished(before) {
    if (history.commit(before)) store.set({ unsaved: true });
  },
  pick(x, y, wasTool) {
    const klass = labels.at(x, y);
    if (klass === null) return;
    choose(store, klass);
    if (wasTool) store.set({ tool: "brush" });
  },
  fill(x, y) {
    const over = store.get("over");
    const found = labels.at(x, y);
    if (found === null) return;
    if (over !== null && found !== over) {
      notice.news(`Nothing filled: this is ${name(found)}, and painting is limited to ${name(over)}.`);
      return;
    }
    changeMask(() => labels.fill(x, y, store.get("klass"), over));
  },
  hovered(point) {
    const klass = point && labels.at(...point);
    const known = store.get("photo") && point && klass !== null;
    byId("under").textContent = known ? `${titleOf(about.classes[klass])}   ${point[0]}, ${point[1]}` : "";
  },
});

const name = (klass) => titleOf(about.classes[klass]).toLowerCase();

function changeMask(change) {
  const before = labels.data.slice();
  change();
  if (!history.commit(before)) return;
  view.draw();
  live.changed();
  store.set({ unsaved: true });
}

view.moved = () => {
  byId("zoom").value = `${Math.round(100 * view.scale)} %`;
  pointer.showCursor();
};
store.follow(["opacity", "maskShown"], () => {
  view.setOpacity(store.get("maskShown") ? store.get("opacity") / 100 : 0);
});
store.follow(["size", "tool"], () => pointer.showCursor());
store.follow(["view"], () => live.changed());

// --- files

async function importMask(file) {
  try {
    const mask = await api.decodeLabels(file);
    changeMask(() => labels.data.set(mask));
    notice.news(`${file.name} is the mask now.`);
  } catch (error) {
    failed(error);
  }
}

const stem = () => store.get("photo").name.replace(/\.[^.]*$/, "");

async function save(words, make) {
  try {
    const { blob, name } = await busyWith(words, make);
    download(blob, name);
  } catch (error) {
    failed(error);
  }
}

async function maskFile() {
  const name = `${stem()}.mask.png`;
  const sent = labels.data.slice();
  const blob = await api.encodeLabels(sent);
  if (sent.every((klass, at) => klass === labels.data[at])) store.set({ unsaved: false });
  return { blob, name };
}

// --- adaptation to the face

const STEPS = 80;
let adapting = null; // its AbortController

async function adapt() {
  const photo = store.get("photo");
  adapting = new AbortController();
  byId("adapt").textContent = "Cancel";
  byId("adapted").hidden = false;
  byId("adapted").value = 0;
  try {
    const adapted = await api.adapt(photo.id, STEPS, adapting.signal, (share) => (byId("adapted").value = share));
    if (store.get("photo") !== photo) return; // another photo was opened
    store.set({ photo: adapted });
    sources.setOwn(adapted);
    live.changed();
    notice.news("The network is adapted to this face.");
  } catch (error) {
    if (error.name !== "AbortError") failed(error);
  } finally {
    adapting = null;
    byId("adapt").textContent = "Adapt to this face";
    byId("adapted").hidden = true;
  }
}

const actions = {
  undo: () => pointer.stroke || history.undo(),
  redo: () => pointer.stroke || history.redo(),
  open: async () => {
    const file = await chooseFile(byId("photo-file"));
    if (file) await openPhoto(file);
  },
  save: () => save("Writing the photo", () => api.exported("photo", edit())),
  saveFace: () => save("Writing the face", () => api.exported("face", edit())),
  exportMask: () => save("Writing the mask", maskFile),
  importMask: async () => {
    const file = await chooseFile(byId("mask-file"));
    if (file) await importMask(file);
  },
  resetMask: () => changeMask(() => labels.data.set(ownLabels)),
  reread: async () => {
    try {
      const photo = await busyWith("Reading the face anew", () => api.reread(store.get("photo").id, labels.data));
      ownLabels = labels.data.slice();
      store.set({ photo });
      sources.setOwn(photo);
      live.changed();
      notice.news("The face's appearance is now read through this mask.");
    } catch (error) {
      failed(error);
    }
  },
  adapt: () => (adapting ? adapting.abort() : adapt()),
  klass: (klass) => choose(store, klass),
  swap: () => choose(store, store.get("lastClass")),
  only: () => {
    const under = pointer.hover && labels.at(...pointer.hover.map(Math.floor));
    store.set({ over: store.get("over") === null ? under ?? store.get("klass") : null });
  },
  mask: () => store.set({ maskShown: !store.get("maskShown") }),
  smaller: () => store.set({ size: otherSize(store.get("size"), -1) }),
  larger: () => store.set({ size: otherSize(store.get("size"), 1) }),
  zoomIn: () => view.zoom(1.25),
  zoomOut: () => view.zoom(0.8),
  fit: () => view.fit(),
  help: () => byId("help-dialog").showModal(),
  space: (held) => pointer.setSpace(held),
  compare: (held) => compare.hold(held),
};
for (const tool of ["brush", "eraser", "fill", "pick", "hand"]) actions[tool] = () => store.set({ tool });

const buttons = {
  open: "open", "open-first": "open", undo: "undo", redo: "redo", "save-photo": "save", "save-face": "saveFace",
  "import-mask": "importMask", "export-mask": "exportMask", "reset-mask": "resetMask", reread: "reread", adapt: "adapt",
  "zoom-in": "zoomIn", "zoom-out": "zoomOut", "zoom-fit": "fit", help: "help",
};
wire(buttons, actions);
document.querySelectorAll('input[name="view"]').forEach((input) => {
  input.addEventListener("change", () => store.set({ view: input.value }));
});
listen(KEYS, actions, () => Boolean(store.get("photo")));

acceptDrops(
  [
    ...Object.entries(sources.rows).map(([name, row]) => [row.element, "Take the appearance from this photo", (file) => sources.take(name, file)]),
    [byId("tools-panel"), "Use this PNG as the mask", importMask],
    [document.body, "Open this photo", openPhoto],
  ],
  byId("drop-veil"),
);
buildTools(store, about);
buildHelp(KEYS);
if (startFile) await openPhoto(startFile);
document.documentElement.dataset.ready = "true";
