// The Edit tool: connects its parts. Its state is the store, and apart from it the painted mask with its undo history and
// the sources of appearance; of these the store holds what is kept when another tool is opened.

import { openPhoto as openFile } from "../shell/api.js";
import { Compare } from "../shell/compare.js";
import { byId, create } from "../shell/dom.js";
import { EXPORT_DEFAULTS, bindExport, exportOptions, save } from "../shell/export.js";
import { showFaceChoice } from "../shell/faces.js";
import { chooseFile } from "../shell/files.js";
import { keepForPhoto, keptForPhoto } from "../shell/kept.js";
import { LiveRender, formatTime } from "../shell/live.js";
import { chooseAndOpen, inTurn, loadAbout, notice, reportError, start, withBusy } from "../shell/shell.js";
import { Store } from "../shell/store.js";
import * as api from "./api.js";
import { History } from "./history.js";
import { KEYS, nextBrushSize } from "./keys.js";
import { Labels } from "./labels.js";
import { MaskPointer } from "./painting.js";
import { Sources } from "./sources.js";
import { buildTools, classTitle, selectClass } from "./tools.js";
import { MaskView } from "./view.js";

const about = await loadAbout();
const store = new Store({
  photo: null, // description of the edited photo
  mask: "", // as of Labels.text, for keeping
  sources: null, // as of Sources.kept
  tool: "brush",
  classIndex: about.classes.indexOf("hair"),
  lastClass: 1,
  size: Math.max(1, Math.round(about.size / 21)),
  over: null,
  opacity: 55,
  maskShown: true,
  view: "photo",
  adapting: null, // AbortController of a running adaptation
  ...EXPORT_DEFAULTS,
  unsaved: false,
});
keepForPhoto(store, ["photo", "mask", "sources", "unsaved"]);

const labels = new Labels(about.size);
let originalLabels = labels.data.slice(); // the photo's original mask
const view = new MaskView(byId("stage"), byId("world"), byId("labels"), byId("cursor"), labels, about.colours);
const compare = new Compare(byId("result"), byId("divider"), byId("before"));
const history = new History(labels, (restored) => {
  if (restored) {
    view.draw();
    live.schedule();
    maskChanged();
  }
  byId("undo").disabled = !history.canUndo;
  byId("redo").disabled = !history.canRedo;
});

const maskChanged = () => store.set({ mask: labels.text, unsaved: true });

// --- live rendering

const currentEdit = () => {
  const photo = store.get("photo");
  return photo && { photo: photo.id, labels: labels.text, parts: sources.parts, view: store.get("view") };
};

const live = new LiveRender(api.render, currentEdit, {
  async onResult(result, milliseconds, revision) {
    const image = new Image();
    image.src = `data:image/png;base64,${result.image}`;
    await image.decode();
    byId("after").src = image.src;
    byId("latency").textContent = formatTime(milliseconds);
    byId("latency").title = `${formatTime(result.milliseconds)} of them in the network`;
    Object.assign(byId("result").dataset, { state: "ready", revision });
    byId("warnings").replaceChildren(...result.warnings.map(warningRow));
  },
  onError(error) {
    byId("result").dataset.state = "failed";
    handleError(error);
  },
  onBusy(busy) {
    byId("latency").classList.toggle("busy", busy);
  },
});

function warningRow(line) {
  const row = create("li");
  row.innerHTML = '<svg aria-hidden="true"><use href="#i-warn"/></svg>'; // no user text
  row.append(line[0].toUpperCase() + line.slice(1));
  return row;
}

// --- photos

// Report an error; retry() opens the photo as an aligned face.
function handleError(error, retry = null) {
  reportError(error, error.hints?.aligned && retry ? ["Open it as a picture that the face fills", retry] : null);
  if (error.status === 404) {
    sources.forget(sources.photos.map(({ id }) => id));
    store.set({ sources: sources.kept });
  }
}

const uploadPhoto = (file, aligned) => openFile(file, about.upload_bytes, { aligned: aligned ? "1" : "0" });

const oneByOne = inTurn(); // of what changes which face is open

const openPhoto = oneByOne(async (file, aligned = false) => {
  if (store.get("unsaved") && !aligned && !window.confirm("Open another photo? The mask you painted has not been saved.")) return;
  notice.clear();
  const kept = typeof file === "string" ? keptForPhoto({ file }) : null;
  try {
    await withBusy(`Finding the face${file.name ? ` in ${file.name}` : ""}`, async () => {
      if (kept) await reopen(file, aligned, kept);
      else await show(await uploadPhoto(file, aligned));
    });
  } catch (error) {
    handleError(error, () => openPhoto(file, true));
  }
});

// Show a photo as it was left. The server may have closed it, and with it a network that was adapted to the face.
async function reopen(file, aligned, kept) {
  if (kept.sources) sources.kept = kept.sources; // first, so that the face is rendered once
  try {
    await show(kept.photo, kept.mask);
  } catch (error) {
    if (error.status !== 404) throw error;
    const photo = await uploadPhoto(file, aligned);
    const { face } = kept.photo;
    await show(face ? await api.openFace(photo.id, face) : photo, kept.mask);
  }
  store.set({ sources: sources.kept, unsaved: kept.unsaved });
}

// mask: what was painted, as of Labels.text
async function show(photo, mask = "") {
  originalLabels = await api.photoLabels(photo.id);
  labels.data.set(originalLabels);
  if (mask) labels.text = mask;
  pointer.lastPoint = null;
  delete document.body.dataset.empty;
  byId("welcome").hidden = true;
  byId("after").src = byId("before").src = byId("face").src = api.faceUrl(photo.id);
  byId("result").dataset.state = "waiting";
  compare.set(0);
  view.draw();
  view.fit();
  store.set({ photo, mask, unsaved: false });
  sources.setOwn(photo);
  history.clear();
  live.schedule();
}

const openFace = oneByOne(async (index) => {
  const photo = store.get("photo");
  if (store.get("unsaved") && !window.confirm("Edit another face? The mask you painted has not been saved.")) return showFaces();
  notice.clear();
  try {
    await show(await withBusy(`Reading face ${index + 1}`, () => api.openFace(photo.id, index)));
  } catch (error) {
    handleError(error);
    showFaces();
  }
});

function showFaces() {
  const { faces, face } = store.get("photo") ?? { faces: 0, face: 0 };
  showFaceChoice(byId("faces"), faces, face, openFace);
}

store.subscribe(["photo"], showFaces);

const sources = new Sources(byId("slots"), about.components, {
  onChange() {
    live.schedule();
    store.set({ sources: sources.kept });
  },
  choose: () => chooseFile(byId("photo-file")),
  // a photo without a face can still be opened by the notice's button
  async open(file, onOpened, aligned = false) {
    try {
      return await uploadPhoto(file, aligned);
    } catch (error) {
      handleError(error, () => uploadPhoto(file, true).then(onOpened, handleError));
      return null;
    }
  },
});

// --- painting

const pointer = new MaskPointer(byId("stage"), view, labels, store, {
  painted() {
    view.draw();
    live.schedule();
  },
  finished(before) {
    if (history.commit(before)) maskChanged();
  },
  pick(x, y, wasTool) {
    const classIndex = labels.at(x, y);
    if (classIndex === null) return;
    selectClass(store, classIndex);
    if (wasTool) store.set({ tool: "brush" });
  },
  fill(x, y) {
    const over = store.get("over");
    const found = labels.at(x, y);
    if (found === null) return;
    if (over !== null && found !== over) {
      notice.info(`Nothing filled: this is ${className(found)}, and painting is limited to ${className(over)}.`);
      return;
    }
    changeMask(() => labels.fill(x, y, store.get("classIndex"), over));
  },
  hovered(point) {
    const classIndex = point && labels.at(...point);
    const known = store.get("photo") && point && classIndex !== null;
    byId("status-text").textContent = known ? `${classTitle(about.classes[classIndex])}   ${point[0]}, ${point[1]}` : "";
  },
});

const className = (classIndex) => classTitle(about.classes[classIndex]).toLowerCase();

function changeMask(change) {
  const before = labels.data.slice();
  change();
  if (!history.commit(before)) return;
  view.draw();
  live.schedule();
  maskChanged();
}

view.onChange = () => {
  byId("zoom").value = `${Math.round(100 * view.scale)} %`;
  pointer.showCursor();
};
store.subscribe(["opacity", "maskShown"], () => {
  view.setOpacity(store.get("maskShown") ? store.get("opacity") / 100 : 0);
});
store.subscribe(["size", "tool"], () => pointer.showCursor());
store.subscribe(["view"], () => live.schedule());

// --- files

async function importMask(file) {
  try {
    const mask = await api.decodeLabels(file);
    changeMask(() => labels.data.set(mask));
    notice.info(`${file.name} is the mask now.`);
  } catch (error) {
    handleError(error);
  }
}

const stem = () => store.get("photo").name.replace(/\.[^.]*$/, "");

async function maskFile() {
  const name = `${stem()}.mask.png`;
  const sent = labels.data.slice();
  const blob = await api.encodeLabels(sent);
  if (sent.every((value, at) => value === labels.data[at])) store.set({ unsaved: false });
  return { blob, name };
}

// --- adaptation to the face

const STEPS = 80;

async function adapt() {
  const photo = store.get("photo");
  const adapting = new AbortController();
  byId("adapted").value = 0;
  store.set({ adapting });
  try {
    const adapted = await api.adapt(photo.id, STEPS, adapting.signal, (fraction) => (byId("adapted").value = fraction));
    store.set({ photo: adapted });
    sources.setOwn(adapted);
    live.schedule();
    notice.info("The network is adapted to this face.");
  } catch (error) {
    if (error.name !== "AbortError") handleError(error);
  } finally {
    store.set({ adapting: null });
  }
}

store.subscribe(["photo"], () => store.get("adapting")?.abort());
store.subscribe(["adapting"], () => {
  const running = store.get("adapting") !== null;
  byId("adapt").textContent = running ? "Cancel" : "Adapt to this face";
  byId("adapted").hidden = !running;
});

const actions = {
  undo: () => pointer.stroke || history.undo(),
  redo: () => pointer.stroke || history.redo(),
  export: () => save("Writing the photo", () => api.exportResult("photo", currentEdit(), exportOptions(store)), handleError),
  exportChange: () => save("Writing the change", () => api.exportResult("change", currentEdit()), handleError),
  exportFace: () => save("Writing the face", () => api.exportResult("face", currentEdit()), handleError),
  exportMask: () => save("Writing the mask", maskFile, handleError),
  importMask: () => chooseAndOpen(byId("mask-file"), importMask),
  resetMask: () => changeMask(() => labels.data.set(originalLabels)),
  reencode: oneByOne(async () => {
    try {
      const sent = labels.data.slice();
      const photo = await withBusy("Re-encoding the face", () => api.reencode(store.get("photo").id, sent));
      originalLabels = sent;
      store.set({ photo });
      sources.setOwn(photo);
      live.schedule();
      notice.info("The face's appearance is now read through this mask.");
    } catch (error) {
      handleError(error);
    }
  }),
  adapt: () => (store.get("adapting") ? store.get("adapting").abort() : adapt()),
  selectClass: (classIndex) => selectClass(store, classIndex),
  lastClass: () => selectClass(store, store.get("lastClass")),
  limitToClass: () => {
    const under = pointer.hover && labels.at(...pointer.hover.map(Math.floor));
    store.set({ over: store.get("over") === null ? under ?? store.get("classIndex") : null });
  },
  nextFace: () => {
    const { faces, face } = store.get("photo");
    if (faces > 1) openFace((face + 1) % faces);
  },
  mask: () => store.set({ maskShown: !store.get("maskShown") }),
  smaller: () => store.set({ size: nextBrushSize(store.get("size"), -1) }),
  larger: () => store.set({ size: nextBrushSize(store.get("size"), 1) }),
  ...view.actions,
  space: (held) => pointer.setSpace(held),
  compare: (held) => compare.hold(held),
};
for (const tool of ["brush", "eraser", "fill", "pick", "hand"]) {
  actions[tool] = () => {
    store.set({ tool });
    byId("stage").focus({ preventScroll: true }); // for the arrow keys
  };
}

buildTools(store, about);
bindExport(store, about.formats);
await start(store, {
  keys: KEYS,
  buttons: {
    export: "export", "export-change": "exportChange", "export-face": "exportFace", "import-mask": "importMask", "export-mask": "exportMask",
    "reset-mask": "resetMask", reencode: "reencode", adapt: "adapt",
  },
  actions,
  dropTargets: [
    ...Object.entries(sources.rows).map(([name, row]) => [row.element, "Take the appearance from this photo", (file) => sources.openFor(name, file)]),
    [byId("tools-panel"), "Use this PNG as the mask", importMask],
    [document.body, "Open this photo", openPhoto],
  ],
  openPhoto,
});
