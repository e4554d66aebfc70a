// The Restore tool: connects its parts. Its state is one object, the store.

import { openPhoto as openFile } from "../shell/api.js";
import { byId } from "../shell/dom.js";
import { EXPORT_DEFAULTS, bindExport, exportOptions, save } from "../shell/export.js";
import { FaceFrames, showFaceChoice } from "../shell/faces.js";
import { keepForPhoto, keptForPhoto } from "../shell/kept.js";
import { exportChange, exportPhoto } from "../shell/photos.js";
import { Pointer } from "../shell/pointer.js";
import { attempt, inTurn, loadAbout, notice, start, withBusy } from "../shell/shell.js";
import { PhotoStage } from "../shell/stage.js";
import { Steps, bindStepList, bindStrength } from "../shell/steps.js";
import { Store } from "../shell/store.js";
import { Experts } from "./experts.js";
import { KEYS } from "./keys.js";

const about = await loadAbout();
const store = new Store({
  photo: null, // description of the photo
  steps: [],
  undone: [],
  state: null, // after the steps, from the server: strength, and faces with their operations
  face: 0, // whose operations are shown
  tool: "pick",
  strength: 100,
  ...EXPORT_DEFAULTS,
  unsaved: false,
});
const steps = new Steps(store);
const titles = Object.fromEntries(about.operations.map(({ name, title }) => [name, title]));
const stepTitle = ({ step, name, value }) => `${step === "share" ? titles[name] : "Strength"} ${Math.round(100 * value)} %`;
const currentRequest = () => store.get("photo") && { photo: store.get("photo").id, steps: store.get("steps") };
keepForPhoto(store, ["steps", "undone", "unsaved"]);
byId("caution").lastElementChild.textContent = about.caution;

const stage = new PhotoStage(store, currentRequest, () => frames.layout());
const frames = new FaceFrames(byId("face-frames"), stage.viewport, (face) => store.set({ face }));
new Pointer(stage.element, stage.viewport, store, "pick");
store.subscribe(["steps"], () => stage.schedule());

// --- panels

const experts = new Experts(byId("experts"), about.operations, steps, () => store.get("face"));
store.subscribe(["state", "face"], () => {
  const faces = store.get("state")?.faces ?? [];
  showFaceChoice(byId("faces"), faces.length, store.get("face"), (face) => store.set({ face }));
  frames.show(faces.length > 1 ? faces : [], store.get("face"));
  const face = faces[store.get("face")];
  if (!face) return;
  experts.show(face.operations);
  const found = face.operations.filter((operation) => operation.found).map(({ name }) => titles[name].toLowerCase());
  byId("status-text").textContent = found.length ? `Found: ${found.join(", ")}` : "No retouching was found";
});
bindStrength(store, steps);
bindExport(store, about.formats);
bindStepList(store, steps, stepTitle);

// --- photos

const openPhoto = inTurn()(async (file) => {
  if (store.get("unsaved") && !window.confirm("Open another photo? The result has not been exported.")) return;
  notice.clear();
  await attempt(async () => {
    const photo = await withBusy(`Opening ${file.name ?? "the photo"}`, () => openFile(file, about.upload_bytes));
    store.set({ photo: null, steps: [], undone: [], unsaved: false });
    await stage.show(photo);
    store.set({ face: 0, steps: [], undone: [], unsaved: false, ...keptForPhoto(photo) });
    await withBusy("Looking for retouching", () => stage.settled());
  });
});

await start(store, {
  keys: KEYS,
  buttons: { export: "export", "export-change": "exportChange", "zoom-full": "actualSize", "zoom-face": "face" },
  actions: {
    ...stage.actions,
    undo: () => steps.undo(),
    redo: () => steps.redo(),
    export: async () => {
      const sent = store.get("steps");
      const saved = await save("Writing the photo", () => exportPhoto(currentRequest(), exportOptions(store)));
      if (saved && store.get("steps") === sent) store.set({ unsaved: false });
    },
    exportChange: () => save("Writing the change", () => exportChange(currentRequest())),
    face: () => store.get("state") && stage.viewport.zoomTo(store.get("state").faces[store.get("face")].box),
  },
  dropTargets: [[document.body, "Open this photo", openPhoto]],
  openPhoto,
});
