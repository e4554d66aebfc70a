// The Retouch tool: connects its parts. Its state is one object, the store.

import { fetchAbout, openPhoto as openFile } from "../shell/api.js";
import { Compare } from "../shell/compare.js";
import { acceptDrops, chooseFile, download } from "../shell/files.js";
import { Layer } from "../shell/images.js";
import { buildHelp, bindKeys } from "../shell/keys.js";
import { LiveRender } from "../shell/live.js";
import { Pointer } from "../shell/pointer.js";
import { bindSlider } from "../shell/range.js";
import { withBusy, byId, bindPhoto, notice, reportError, startFile, bindButtons } from "../shell/shell.js";
import { Steps, bindStepList, bindSliderSteps } from "../shell/steps.js";
import { Store } from "../shell/store.js";
import { Viewport } from "../shell/viewport.js";
import * as api from "./api.js";
import { KEYS } from "./keys.js";
import { Marks } from "./marks.js";
import { Painting } from "./painting.js";
import { buildRadios, checkRadio, showFaces, showSizes } from "./panels.js";
import { stepTitle } from "./titles.js";

const about = await withBusy("Loading the network", fetchAbout).catch((error) => {
  notice.error(error.message);
  throw error;
});

const store = new Store({
  photo: null, // description of the photo
  network: about.networks[0].name,
  steps: [], // of the recipe
  undone: [],
  time: null, // of the last step
  state: null, // after the steps, from the server
  tool: "pick",
  radius: 20, // of the brushes, in pixels of the photo
  strength: 100,
  outlines: false,
  overlay: "", // name
  format: "",
  quality: 95,
  strip: "",
  provenance: true,
  unsaved: false,
});
const steps = new Steps(store);
const currentRequest = () => {
  const photo = store.get("photo");
  return photo && { photo: photo.id, network: store.get("network"), steps: store.get("steps"), time: store.get("time") };
};
const networkTitle = () => about.networks.find(({ name }) => name === store.get("network")).title;

// --- the stage

const stage = byId("stage");
const layers = { after: new Layer(byId("after-layer")), before: new Layer(byId("before-layer")) };
const viewport = new Viewport(stage, document.querySelectorAll(".world"), () => {
  byId("zoom").value = `${Math.round(100 * viewport.scale * (window.devicePixelRatio || 1))} %`;
  Object.values(layers).forEach(({ element }) => element.classList.toggle("sharp", viewport.scale >= 4));
  marks.layout();
  draw();
  details.schedule();
});
const marks = new Marks(byId("marks"), byId("chips"), viewport, {
  toggle: ({ at, on }) => steps.add({ step: "blemish", at, on: !on }),
  toggleFace: (face) => steps.add({ step: "face", face, on: !store.get("state").faces[face].on }),
});
const painting = new Painting(byId("strokes"), byId("cursor"), viewport);
const pointer = new Pointer(stage, viewport, store, {
  stroke: (step, points) => steps.add({ step, radius: store.get("radius"), points: points.map((point) => point.map(toHundredths)) }),
  framed(box) {
    store.set({ tool: "pick" });
    if (Math.min(box[2], box[3]) >= 16) steps.add({ step: "add_face", box: box.map(toHundredths) });
  },
  drawing: draw,
  hovered: draw,
});
const compare = new Compare(stage, byId("divider"), byId("before-layer"), byId("divider"));

function draw() {
  const brush = ["protect", "restore"].includes(pointer.tool);
  painting.draw(store.get("steps"), pointer.stroke, store.get("radius"), brush);
  painting.drawCursor(pointer.tool, pointer.hover, store.get("radius"), pointer.stroke);
}

const toHundredths = (value) => Math.round(100 * value) / 100;

// --- rendering: the state and the whole photo, and the visible part in full resolution

const live = new LiveRender(
  async (request) => {
    const [state, blob] = await Promise.all([api.state(request), api.after(request, viewport.whole.window, viewport.whole.size)]);
    return { state, blob };
  },
  currentRequest,
  {
    async onResult({ state, blob }, milliseconds, revision) {
      await layers.after.showBase(blob);
      store.set({ state });
      byId("latency").textContent = `${Math.round(milliseconds)} ms`;
      Object.assign(stage.dataset, { state: "ready", revision });
    },
    onError(error) {
      stage.dataset.state = "failed";
      reportError(error);
    },
    onBusy: (busy) => byId("latency").classList.toggle("busy", busy),
  },
);

const zoomedIn = () => viewport.scale > 1.02 * viewport.fitScale;
const details = new LiveRender(
  async (request) => {
    if (!zoomedIn()) return null;
    const { window, size } = viewport.visible;
    const [before, after] = await Promise.all([api.before(request.photo, window, size), api.after(request, window, size)]);
    return { window, before, after };
  },
  currentRequest,
  {
    async onResult(parts, milliseconds, revision) {
      const { width, height } = store.get("photo");
      for (const [name, layer] of Object.entries(layers)) {
        if (parts && zoomedIn()) await layer.showDetail(parts[name], parts.window, width, height);
        else layer.hideDetail();
      }
      stage.dataset.detail = parts ? revision : "";
    },
  },
);

store.subscribe(["steps", "network"], () => {
  live.schedule();
  details.schedule();
  draw();
});
store.subscribe(["state", "outlines"], () => {
  const state = store.get("state");
  marks.show(state, store.get("outlines"));
  showFaces(byId("faces"), state, (face) => steps.add({ step: "face", face, on: !state.faces[face].on }));
  showSizes(byId("sizes"), state, (size, on) => steps.add({ step: "size", size, on }));
  const removed = state?.blemishes.filter(({ on }) => on).length;
  byId("status-text").textContent = state ? `${removed} of ${state.blemishes.length} blemishes removed` : "";
});

// --- photos

async function openPhoto(file) {
  if (store.get("unsaved") && !window.confirm("Open another photo? The steps you took have not been saved.")) return;
  notice.clear();
  try {
    await show(await withBusy(`Opening ${file.name ?? "the photo"}`, () => openFile(file, about.upload_bytes)));
  } catch (error) {
    reportError(error);
  }
}

async function show(photo) {
  const recipe = photo.recipe ?? { network: store.get("network"), steps: [] };
  delete document.body.dataset.empty;
  byId("welcome").hidden = true;
  stage.dataset.state = "waiting";
  Object.values(layers).forEach((layer) => layer.clear());
  compare.set(0);
  store.set({ photo: null, state: null, overlay: "" });
  viewport.show(photo.width, photo.height);
  const shown = await api.before(photo.id, viewport.whole.window, viewport.whole.size);
  await Promise.all([layers.before.showBase(shown), layers.after.showBase(shown)]);
  store.set({ photo });
  const faces = await withBusy("Finding the faces", () => api.faces(photo.id));
  const face = Math.max(...faces.map(({ box }) => Math.max(box[2], box[3])), Math.min(photo.width, photo.height) / 8);
  byId("radius").max = Math.max(4, Math.round(face / 4));
  if (!faces.length) notice.error("No face was found. Frame one with the tool Frame a face (F).", ["Frame a face", () => actions.tool("frame")]);
  store.set({
    network: recipe.network, steps: recipe.steps, undone: [], time: new Date().toISOString().replace(/\.\d+Z$/, "+00:00"),
    state: { faces, blemishes: [], sizes: {} }, radius: Math.max(2, Math.round(face / 30)), unsaved: false,
  });
  await withBusy(`Retouching with ${networkTitle()}`, () => live.settled());
}

async function openRecipe(file) {
  try {
    await show(await api.openRecipe(store.get("photo").id, file));
    notice.info(`${file.name} is applied.`);
  } catch (error) {
    reportError(error);
  }
}

bindPhoto(store);

// --- overlays

async function showOverlay() {
  const [name, request] = [store.get("overlay"), currentRequest()];
  byId("overlay-name").value = name;
  byId("overlay").replaceChildren();
  if (!name || !request) return;
  try {
    const parts = await withBusy("Asking the network", () => api.overlay(request, name));
    if (name !== store.get("overlay")) return;
    const { width, height } = store.get("photo");
    byId("overlay").replaceChildren(
      ...parts.map(({ box: [x, y, w, h], image }) => {
        const img = Object.assign(new Image(), { src: `data:image/png;base64,${image}`, alt: "" });
        const percent = (value, whole) => `${(100 * value) / whole}%`;
        Object.assign(img.style, { left: percent(x, width), top: percent(y, height), width: percent(w, width), height: percent(h, height) });
        return img;
      }),
    );
  } catch (error) {
    store.set({ overlay: "" });
    reportError(error);
  }
}

store.subscribe(["network"], () => {
  const { overlays } = about.networks.find(({ name }) => name === store.get("network"));
  byId("overlay-name").replaceChildren(new Option("nothing", ""), ...Object.entries(overlays).map(([name, title]) => new Option(title, name)));
  checkRadio("network", store.get("network"));
  store.set({ overlay: "" });
});
store.subscribe(["overlay"], showOverlay);

// --- export

async function save(message, makeFile) {
  try {
    const { blob, name } = await withBusy(message, makeFile);
    download(blob, name);
  } catch (error) {
    reportError(error);
  }
}

const outputOptions = () => ({
  format: store.get("format") || null,
  quality: store.get("quality"),
  strip: store.get("strip") || null,
  provenance: store.get("provenance"),
});

async function saveRecipe() {
  try {
    const { saved, blob, name } = await withBusy("Writing the recipe", () => api.saveRecipe(currentRequest()));
    if (saved) notice.info(`Written: ${saved}`);
    else download(blob, name);
    store.set({ unsaved: false });
  } catch (error) {
    reportError(error);
  }
}

// --- controls

let nextFace = 0;
const actions = {
  undo: () => pointer.stroke || steps.undo(),
  redo: () => pointer.stroke || steps.redo(),
  open: async () => {
    const file = await chooseFile(byId("photo-file"));
    if (file) await openPhoto(file);
  },
  openRecipe: async () => {
    const file = await chooseFile(byId("recipe-file"));
    if (file) await openRecipe(file);
  },
  export: () => save("Writing the photo", () => api.exportPhoto(currentRequest(), outputOptions())),
  exportChange: () => save("Writing the change", () => api.exportChange(currentRequest())),
  saveRecipe,
  tool: (tool) => store.set({ tool }),
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
  zoomIn: () => viewport.zoom(1.25),
  zoomOut: () => viewport.zoom(0.8),
  fit: () => viewport.fit(),
  actualSize: () => viewport.actualSize(),
  face: () => {
    const faces = store.get("state")?.faces ?? [];
    if (faces.length) viewport.zoomTo(faces[nextFace++ % faces.length].box);
  },
  help: () => byId("help-dialog").showModal(),
  space: (held) => pointer.setSpace(held),
  hold: (held) => {
    compare.hold(held);
    byId("hold").setAttribute("aria-pressed", held);
  },
};
bindButtons(
  {
    open: "open", "open-first": "open", undo: "undo", redo: "redo", export: "export", "export-change": "exportChange",
    "save-recipe": "saveRecipe", "open-recipe": "openRecipe", "zoom-in": "zoomIn", "zoom-out": "zoomOut",
    "zoom-full": "actualSize", "zoom-face": "face", "zoom-fit": "fit", help: "help",
  },
  actions,
);
for (const [event, held] of [
  ["pointerdown", true], ["pointerup", false], ["pointerleave", false], ["keydown", true], ["keyup", false], ["blur", false],
]) {
  byId("hold").addEventListener(event, ({ key }) => {
    if (!key || key === " " || key === "Enter") actions.hold(held);
  });
}

buildRadios(byId("networks"), "network", about.networks.map(({ name, title }) => [name, title]), async (network) => {
  store.set({ network });
  await withBusy(`Retouching with ${networkTitle()}`, () => live.settled());
});
checkRadio("network", store.get("network"));
for (const input of document.querySelectorAll('input[name="tool"]')) {
  input.addEventListener("change", () => actions.tool(input.value));
}
store.subscribe(["tool"], () => {
  checkRadio("tool", store.get("tool"));
  stage.dataset.tool = store.get("tool");
  draw();
});
bindSlider("radius", store, (value) => `${value} px`);
store.subscribe(["radius"], draw);
bindSlider("quality", store, String);
bindSlider("strength", store, (value) => `${value} %`);
bindSliderSteps(byId("strength"), steps, (value) => ({ step: "strength", value: value / 100 }));
store.subscribe(["steps"], () => {
  const last = store.get("steps").findLast(({ step }) => step === "strength");
  store.set({ strength: Math.round(100 * (last?.value ?? 1)) });
});
byId("outlines").addEventListener("change", actions.outlines);
store.subscribe(["outlines"], () => (byId("outlines").checked = store.get("outlines")));
byId("overlay-name").addEventListener("change", () => store.set({ overlay: byId("overlay-name").value }));

byId("format").append(new Option("as the photo", ""), ...about.formats.map((format) => new Option(format.toUpperCase(), format)));
for (const name of ["format", "strip"]) byId(name).addEventListener("change", () => store.set({ [name]: byId(name).value }));
byId("provenance").addEventListener("change", () => store.set({ provenance: byId("provenance").checked }));

bindStepList(byId("steps"), store, steps, stepTitle);
store.subscribe(["steps", "undone"], () => {
  byId("undo").disabled = !store.get("steps").length;
  byId("redo").disabled = !store.get("undone").length;
});

const openDropped = (file) => (file.name.endsWith(".json") && store.get("photo") ? openRecipe(file) : openPhoto(file));
acceptDrops([[document.body, "Open this photo, or the recipe of the open one", openDropped]], byId("drop-overlay"));
bindKeys(KEYS, actions, () => Boolean(store.get("photo")));
buildHelp(KEYS);
if (startFile) await openPhoto(startFile);
document.documentElement.dataset.ready = "true";
