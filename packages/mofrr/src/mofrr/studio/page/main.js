// The Restore tool: connects its parts. Its state is one object, the store.

import { fetchAbout, fetchOk, openPhoto as openFile, readDownload } from "../shell/api.js";
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
import { Experts } from "./experts.js";
import { KEYS } from "./keys.js";

const about = await withBusy("Loading the network", fetchAbout).catch((error) => {
  notice.error(error.message);
  throw error;
});

const store = new Store({
  photo: null, // description of the photo
  steps: [],
  undone: [],
  state: null, // after the steps, from the server: strength, and faces with their operations
  face: 0, // whose operations are shown
  tool: "pick",
  strength: 100,
  format: "",
  quality: 95,
  strip: "",
  unsaved: false,
});
const steps = new Steps(store);
const titles = Object.fromEntries(about.operations.map(({ name, title }) => [name, title]));
const stepTitle = ({ step, name, value }) => `${step === "share" ? titles[name] : "Strength"} ${Math.round(100 * value)} %`;
const currentRequest = () => store.get("photo") && { photo: store.get("photo").id, steps: store.get("steps") };
byId("caution").lastElementChild.textContent = about.caution;

const send = (path, content) =>
  fetchOk(path, { method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json" } });
const fetchAfter = async (request, { window, size }) => (await send("api/view", { ...request, window, size })).blob();
async function fetchBefore(photo, { window: [x, y, w, h], size: [width, height] }) {
  return (await fetchOk(`api/photos/${photo}/before?${new URLSearchParams({ x, y, w, h, width, height })}`)).blob();
}

// --- the stage

const stage = byId("stage");
const layers = { after: new Layer(byId("after-layer")), before: new Layer(byId("before-layer")) };
const viewport = new Viewport(stage, document.querySelectorAll(".world"), () => {
  byId("zoom").value = `${Math.round(100 * viewport.scale * (window.devicePixelRatio || 1))} %`;
  Object.values(layers).forEach(({ element }) => element.classList.toggle("sharp", viewport.scale >= 4));
  details.schedule();
});
new Pointer(stage, viewport, store, { drawing: () => {}, hovered: () => {} });
const compare = new Compare(stage, byId("divider"), byId("before-layer"), byId("divider"));

const live = new LiveRender(
  async (request) => {
    const state = await (await send("api/state", request)).json();
    return { state, blob: await fetchAfter(request, viewport.whole) };
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
    const part = viewport.visible;
    const [before, after] = await Promise.all([fetchBefore(request.photo, part), fetchAfter(request, part)]);
    return { window: part.window, before, after };
  },
  () => store.get("state") && currentRequest(),
  {
    async onResult(parts) {
      const { width, height } = store.get("photo");
      for (const [name, layer] of Object.entries(layers)) {
        if (parts && zoomedIn()) await layer.showDetail(parts[name], parts.window, width, height);
        else layer.hideDetail();
      }
    },
  },
);
store.subscribe(["steps"], () => {
  live.schedule();
  details.schedule();
});

// --- panels

const experts = new Experts(byId("experts"), about.operations, steps, () => store.get("face"));
store.subscribe(["state", "face"], () => {
  const faces = store.get("state")?.faces ?? [];
  byId("faces").querySelector("div").replaceChildren(
    ...faces.map((_, index) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "face", checked: index === store.get("face") });
      input.addEventListener("change", () => store.set({ face: index }));
      label.append(input, Object.assign(document.createElement("span"), { textContent: String(index + 1) }));
      return label;
    }),
  );
  const face = faces[store.get("face")];
  if (!face) return;
  experts.show(face.operations);
  const found = face.operations.filter((operation) => operation.found).map(({ name }) => titles[name].toLowerCase());
  byId("status-text").textContent = found.length ? `Found: ${found.join(", ")}` : "No retouching was found";
});
bindSlider("strength", store, (value) => `${value} %`);
bindSlider("quality", store, String);
bindSliderSteps(byId("strength"), steps, (value) => ({ step: "strength", value: value / 100 }));
store.subscribe(["steps"], () => {
  const last = store.get("steps").findLast(({ step }) => step === "strength");
  store.set({ strength: Math.round(100 * (last?.value ?? 1)) });
});
byId("format").append(new Option("as the photo", ""), ...about.formats.map((format) => new Option(format.toUpperCase(), format)));
for (const name of ["format", "strip"]) byId(name).addEventListener("change", () => store.set({ [name]: byId(name).value }));
bindStepList(byId("steps"), store, steps, stepTitle);
store.subscribe(["steps", "undone"], () => {
  byId("undo").disabled = !store.get("steps").length;
  byId("redo").disabled = !store.get("undone").length;
});

// --- photos

async function openPhoto(file) {
  if (store.get("unsaved") && !window.confirm("Open another photo? The result has not been exported.")) return;
  notice.clear();
  try {
    await show(await withBusy(`Opening ${file.name ?? "the photo"}`, () => openFile(file, about.upload_bytes)));
  } catch (error) {
    reportError(error);
  }
}

async function show(photo) {
  delete document.body.dataset.empty;
  byId("welcome").hidden = true;
  stage.dataset.state = "waiting";
  Object.values(layers).forEach((layer) => layer.clear());
  compare.set(0);
  store.set({ photo: null, state: null });
  viewport.show(photo.width, photo.height);
  const shown = await fetchBefore(photo.id, viewport.whole);
  await Promise.all([layers.before.showBase(shown), layers.after.showBase(shown)]);
  store.set({ photo, face: 0, steps: [], undone: [], unsaved: false });
  await withBusy("Looking for retouching", () => live.settled());
}

bindPhoto(store);

async function exportPhoto() {
  const options = { format: store.get("format") || null, quality: store.get("quality"), strip: store.get("strip") || null };
  try {
    const { blob, name } = await withBusy("Writing the photo", async () =>
      readDownload(await send("api/export", { ...currentRequest(), options }), "restored"));
    download(blob, name);
    store.set({ unsaved: false });
  } catch (error) {
    reportError(error);
  }
}

const actions = {
  undo: () => steps.undo(),
  redo: () => steps.redo(),
  open: async () => {
    const file = await chooseFile(byId("photo-file"));
    if (file) await openPhoto(file);
  },
  export: exportPhoto,
  zoomIn: () => viewport.zoom(1.25),
  zoomOut: () => viewport.zoom(0.8),
  fit: () => viewport.fit(),
  actualSize: () => viewport.actualSize(),
  face: () => store.get("state") && viewport.zoomTo(store.get("state").faces[store.get("face")].box),
  help: () => byId("help-dialog").showModal(),
  hold: (held) => compare.hold(held),
};
bindButtons(
  {
    open: "open", "open-first": "open", undo: "undo", redo: "redo", export: "export", "zoom-in": "zoomIn",
    "zoom-out": "zoomOut", "zoom-face": "face", "zoom-fit": "fit", help: "help",
  },
  actions,
);
acceptDrops([[document.body, "Open this photo", openPhoto]], byId("drop-overlay"));
bindKeys(KEYS, actions, () => Boolean(store.get("photo")));
buildHelp(KEYS);
if (startFile) await openPhoto(startFile);
document.documentElement.dataset.ready = "true";
