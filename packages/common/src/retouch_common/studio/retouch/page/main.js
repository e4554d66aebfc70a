// The Retouch tool: connects its parts. Its state is one object, the store.

import { openPhoto as openFile } from "../shell/api.js";
import { bindRadios, bindSlider, buildRadios, checkRadio } from "../shell/controls.js";
import { byId } from "../shell/dom.js";
import { EXPORT_DEFAULTS, bindExport, exportOptions, save } from "../shell/export.js";
import { download } from "../shell/files.js";
import { keepForPhoto, keptForPhoto } from "../shell/kept.js";
import { exportChange, exportPhoto } from "../shell/photos.js";
import { Pointer } from "../shell/pointer.js";
import { attempt, chooseAndOpen, inTurn, loadAbout, notice, start, withBusy } from "../shell/shell.js";
import { PhotoStage } from "../shell/stage.js";
import { Steps, bindStepList, bindStrength, timestamp } from "../shell/steps.js";
import { Store } from "../shell/store.js";
import * as api from "./api.js";
import { KEYS } from "./keys.js";
import { Marks } from "./marks.js";
import { Painting, frameOf } from "./painting.js";
import { showFaces, showSizes } from "./panels.js";
import { stepTitle } from "./titles.js";

const BRUSHES = ["protect", "restore"];
const MIN_DISTANCE = 1.5; // between points of a stroke, in CSS pixels
const MIN_FACE = 16; // smaller side of a frame, in pixels of the photo

const about = await loadAbout();
const store = new Store({
  photo: null, // description of the photo
  recipe: null, // name and text of the file that was opened for the photo
  firstNetwork: about.networks[0].name, // before the steps
  network: about.networks[0].name, // after the steps
  steps: [], // of the recipe, and changes of the network
  undone: [],
  time: null, // of the last step
  state: null, // after the steps, from the server
  tool: "pick",
  radius: 20, // of the brushes, in pixels of the photo
  strength: 100,
  outlines: false, // of blemishes
  faceOutlines: true,
  overlay: "", // name
  nextFace: 0, // to zoom to
  ...EXPORT_DEFAULTS,
  unsaved: false,
});
const steps = new Steps(store);
const currentRequest = () => {
  const photo = store.get("photo");
  return photo && { photo: photo.id, network: store.get("network"), steps: recipeSteps(), time: store.get("time") };
};
const recipeSteps = () => store.get("steps").filter(({ step }) => step !== "network"); // a recipe has one network
const findNetwork = (name) => about.networks.find((network) => network.name === name);
const currentNetwork = () => findNetwork(store.get("network"));
store.subscribe(["steps", "firstNetwork"], () => {
  store.set({ network: store.get("steps").findLast(({ step }) => step === "network")?.name ?? store.get("firstNetwork") });
});
keepForPhoto(store, ["recipe", "firstNetwork", "steps", "undone", "time", "unsaved"]);

// --- the stage

const stage = new PhotoStage(store, currentRequest, () => {
  marks.layout();
  draw();
});
const { viewport } = stage;
const marks = new Marks(byId("marks"), byId("chips"), viewport, {
  toggle: ({ at, on }) => steps.add({ step: "blemish", at, on: !on }),
  toggleFace: (face) => steps.add({ step: "face", face, on: !store.get("state").faces[face].on }),
});
const painting = new Painting(byId("strokes"), byId("cursor"), viewport);
const pointer = new Pointer(stage.element, viewport, store, "pick", {
  onStart(event, tool, point) {
    return event.button === 0 ? { tool, points: [point] } : null;
  },
  onMove({ points }, point) {
    const last = points.at(-1);
    if (Math.hypot(point[0] - last[0], point[1] - last[1]) * viewport.scale >= MIN_DISTANCE) points.push(point);
  },
  onEnd({ tool, points }, point) {
    if (tool === "frame") addFace(frameOf(...[points[0], point].map(withinPhoto)));
    else steps.add({ step: tool, radius: store.get("radius"), points: points.map((each) => each.map(toHundredths)) });
    draw();
  },
  onCancel: draw,
  onHover: draw,
  onToolChange: draw,
});

const withinPhoto = ([x, y]) => {
  const { width, height } = store.get("photo");
  return [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))];
};

function addFace(box) {
  store.set({ tool: "pick" });
  if (Math.min(box[2], box[3]) < MIN_FACE) return; // also where little of it lies in the photo
  setRegion("faces");
  steps.add({ step: "add_face", box: box.map(toHundredths) });
}

// What is retouched after the steps: "faces" or "photo".
const region = () => store.get("steps").findLast(({ step }) => step === "region")?.value ?? "faces";

function setRegion(value) {
  if (value !== region()) steps.add({ step: "region", value });
}

function draw() {
  painting.draw(store.get("steps"), pointer.stroke, store.get("radius"), BRUSHES.includes(pointer.tool));
  painting.drawCursor(pointer.tool, pointer.hover, store.get("radius"), pointer.stroke);
}

const toHundredths = (value) => Math.round(100 * value) / 100;

store.subscribe(["steps", "network"], () => {
  stage.schedule();
  draw();
});
// Connected parts of the change, in the order of their numbers on the page.
const places = () => [...(store.get("state")?.blemishes ?? [])].sort((a, b) => a.face - b.face || a.at[1] - b.at[1]);

store.subscribe(["state", "outlines", "faceOutlines"], () => {
  const state = store.get("state");
  const faces = region() === "photo" ? [] : (state?.faces ?? []);
  marks.show({ faces: store.get("faceOutlines") ? faces : [], blemishes: places() }, store.get("outlines"));
  byId("face-outlines-row").hidden = !faces.length;
  showFaces(byId("faces"), faces, (face) => steps.add({ step: "face", face, on: !state.faces[face].on }));
  showSizes(byId("sizes"), state, (size, on) => steps.add({ step: "size", size, on }));
  const [changed, count] = [places().filter(({ on }) => on).length, places().length];
  const share = changed < count ? `${changed} of ${count}` : count;
  byId("status-text").textContent = state ? `${share} ${count === 1 ? "place" : "places"} changed` : "";
});

// --- photos

const oneByOne = inTurn(); // of what changes which photo is open

const openPhoto = oneByOne(async (file) => {
  if (store.get("unsaved") && !window.confirm("Open another photo? The steps you took have not been saved.")) return;
  notice.clear();
  await attempt(async () => {
    let photo = await withBusy(`Opening ${file.name ?? "the photo"}`, () => openFile(file, about.upload_bytes));
    const kept = keptForPhoto(photo);
    if (kept?.recipe) photo = await api.openRecipe(photo.id, new File([kept.recipe.text], kept.recipe.name));
    await show(photo, kept);
  });
});

// values: of the store, in place of those of a photo as it was found
async function show(photo, values = null) {
  const { network, steps } = photo.recipe ?? { network: store.get("network"), steps: [] };
  store.set({ photo: null, overlay: "", nextFace: 0, recipe: null, steps: [], undone: [], unsaved: false });
  await stage.show(photo);
  const faces = await withBusy("Finding the faces", () => api.faces(photo.id));
  const face = Math.max(...faces.map(({ box }) => Math.max(box[2], box[3])), Math.min(photo.width, photo.height) / 8);
  byId("radius").max = Math.max(4, Math.round(face / 4));
  if (!faces.length) notice.error("No face was found. Frame one with the tool Frame a face (F), or retouch the whole photo.", ["Frame a face", () => actions.tool("frame")]);
  if (photo.notice && (photo.recipe || !faces.length)) notice.add(photo.notice);
  else if (photo.notice) notice.error(photo.notice);
  store.set({
    recipe: null, firstNetwork: network, steps, undone: [], time: photo.recipe?.time ?? timestamp(), unsaved: false,
    state: { faces, blemishes: [], sizes: {} }, radius: Math.max(2, Math.round(face / 30)), ...values,
  });
  await renderNetwork();
}

const renderNetwork = () => withBusy(`Retouching with ${currentNetwork().title}`, () => stage.settled());

const openRecipe = oneByOne((file) =>
  attempt(async () => {
    const recipe = { name: file.name, text: await file.text() };
    notice.clear();
    await show(await api.openRecipe(store.get("photo").id, file), { recipe });
    notice.add(`${file.name} is applied.`);
  }));

const saveRecipe = () =>
  attempt(async () => {
    const sent = store.get("steps");
    const { saved, blob, name } = await withBusy("Writing the recipe", () => api.saveRecipe(currentRequest()));
    if (saved) notice.info(`Written: ${saved}`);
    else download(blob, name);
    if (store.get("steps") === sent) store.set({ unsaved: false });
  });

// --- overlays

async function showOverlay() {
  const [name, request] = [store.get("overlay"), currentRequest()];
  byId("overlay-name").value = name;
  byId("overlay").replaceChildren();
  if (!name || !request) return;
  const shown = await attempt(async () => {
    const parts = await withBusy("Computing the overlay", () => api.overlay(request, name));
    if (name === store.get("overlay")) byId("overlay").replaceChildren(...parts.map(overlayImage));
  });
  if (!shown) store.set({ overlay: "" });
}

function overlayImage({ box: [x, y, w, h], image }) {
  const { width, height } = store.get("photo");
  const img = Object.assign(new Image(), { src: `data:image/png;base64,${image}`, alt: "" });
  const percent = (value, whole) => `${(100 * value) / whole}%`;
  Object.assign(img.style, { left: percent(x, width), top: percent(y, height), width: percent(w, width), height: percent(h, height) });
  return img;
}

store.subscribe(["network"], () => {
  const overlays = Object.entries(currentNetwork().overlays);
  byId("overlay-name").replaceChildren(new Option("nothing", ""), ...overlays.map(([name, title]) => new Option(title, name)));
  checkRadio("network", store.get("network"));
  document.querySelector('input[name="region"][value="photo"]').disabled = !currentNetwork().whole_photo;
  store.set({ overlay: "" });
});
store.subscribe(["overlay"], showOverlay);

// --- controls

const actions = {
  ...stage.actions,
  undo: () => pointer.stroke || steps.undo(),
  redo: () => pointer.stroke || steps.redo(),
  openRecipe: () => chooseAndOpen(byId("recipe-file"), openRecipe),
  export: () => save("Writing the photo", () => exportPhoto(currentRequest(), exportOptions(store))),
  exportChange: () => save("Writing the change", () => exportChange(currentRequest())),
  saveRecipe,
  tool: (tool) => {
    store.set({ tool });
    stage.element.focus({ preventScroll: true }); // for the arrow keys
  },
  radius: (step) => {
    const [radius, maximum] = [store.get("radius"), Number(byId("radius").max)];
    store.set({ radius: Math.min(maximum, Math.max(1, Math.round(step > 0 ? radius * 1.2 + 1 : radius / 1.2 - 1))) });
  },
  moveFocus: (step) => marks.moveFocus(step),
  outlines: () => store.set({ outlines: !store.get("outlines") }),
  nextOverlay: () => {
    const names = [...byId("overlay-name").options].map(({ value }) => value);
    store.set({ overlay: names[(names.indexOf(store.get("overlay")) + 1) % names.length] });
  },
  face: () => {
    const faces = store.get("state")?.faces ?? [];
    if (!faces.length) return;
    viewport.zoomTo(faces[store.get("nextFace") % faces.length].box);
    store.set({ nextFace: store.get("nextFace") + 1 });
  },
  space: (held) => pointer.setSpace(held),
};
byId("networks").append(...buildRadios("network", about.networks.map(({ name, title }) => [name, title]), async (name) => {
  if (!findNetwork(name).whole_photo) setRegion("faces");
  steps.add({ step: "network", name });
  await renderNetwork();
}));
checkRadio("network", store.get("network"));
for (const input of document.querySelectorAll('input[name="region"]')) {
  input.addEventListener("change", () => {
    setRegion(input.value);
    renderNetwork();
  });
}
store.subscribe(["steps"], () => checkRadio("region", region()));
bindRadios("tool", store);
bindSlider("radius", store, (value) => `${value} px`);
store.subscribe(["tool", "radius"], draw);
bindStrength(store, steps);
byId("outlines").addEventListener("change", actions.outlines);
store.subscribe(["outlines"], () => (byId("outlines").checked = store.get("outlines")));
byId("face-outlines").addEventListener("change", ({ target }) => store.set({ faceOutlines: target.checked }));
byId("overlay-name").addEventListener("change", () => store.set({ overlay: byId("overlay-name").value }));
bindExport(store, about.formats);
bindStepList(store, steps, (step) => stepTitle(step, { places: places(), networks: about.networks }));

const openDropped = (file) => (file.name.endsWith(".json") && store.get("photo") ? openRecipe(file) : openPhoto(file));
await start(store, {
  keys: KEYS,
  buttons: {
    export: "export", "export-change": "exportChange", "save-recipe": "saveRecipe", "open-recipe": "openRecipe",
    "zoom-full": "actualSize", "zoom-face": "face",
  },
  actions,
  dropTargets: [[document.body, "Open this photo, or the recipe of the open one", openDropped]],
  openPhoto,
});
