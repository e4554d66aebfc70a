// The shell around every tool: header, notices, busy indicator, tabs.

import { RequestError, fetchAbout } from "./api.js";
import { byId } from "./dom.js";
import { acceptDrops, chooseFile } from "./files.js";
import { bindKeys, buildHelp } from "./keys.js";
import { Notice } from "./notice.js";

export const notice = new Notice();

// Show a RequestError, with an action [label, handler] if given; other errors are bugs and thrown again.
export function reportError(error, action = null) {
  if (!(error instanceof RequestError)) throw error;
  notice.error(error.message, action);
}

// Run a task; report its error, if any. Return whether it succeeded.
export async function attempt(task, onError = reportError) {
  try {
    await task();
    return true;
  } catch (error) {
    onError(error);
    return false;
  }
}

// Return a function that wraps async functions so that their calls, of all of them, run one after the other.
export function inTurn() {
  let last = Promise.resolve();
  return (task) => (...args) => (last = last.catch(() => {}).then(() => task(...args)));
}

// Actions of buttons that all tools have.
const BUTTONS = {
  open: "open", "open-first": "open", undo: "undo", redo: "redo", "zoom-in": "zoomIn", "zoom-out": "zoomOut", "zoom-fit": "fit",
  help: "help",
};

let tasks = 0;

// Show a message until a task is done.
export async function withBusy(message, task) {
  tasks++;
  byId("busy").hidden = false;
  byId("busy").lastElementChild.textContent = message;
  try {
    return await task();
  } finally {
    byId("busy").hidden = --tasks === 0;
  }
}

// What the server says about the tool; waits until its network is loaded.
export async function loadAbout() {
  try {
    return await withBusy("Loading the network", fetchAbout);
  } catch (error) {
    notice.error(error.message);
    throw error;
  }
}

// Keep the photo's name, the tabs' links and the availability of controls up to date with the store.
function bindPhoto(store) {
  const tool = document.body.dataset.tool;
  const links = [...document.querySelectorAll("#tabs a")];
  links.forEach((link) => (link.dataset.path = link.getAttribute("href")));
  store.subscribe(["photo"], () => {
    const photo = store.get("photo");
    document.querySelectorAll(".needs-photo").forEach((part) => (part.inert = !photo));
    byId("photo-name").textContent = photo ? `${photo.name}  ${photo.width} × ${photo.height}` : "";
    byId("photo-name").title = photo?.name ?? "";
    document.title = photo ? `${photo.name} – ${tool} – retouch studio` : `${tool} – retouch studio`;
    const query = photo ? `?${new URLSearchParams({ file: photo.file })}` : "";
    links.forEach((link) => (link.href = link.dataset.path + query));
  });
  window.addEventListener("beforeunload", (event) => {
    if (store.get("unsaved") && !store.get("leaving")) event.preventDefault();
  });
}

function bindButtons(buttons, actions) {
  for (const [id, name] of Object.entries(buttons)) byId(id).addEventListener("click", () => actions[name]());
}

// Choose a file by an input element, and open it.
export async function chooseAndOpen(input, open) {
  const file = await chooseFile(input);
  if (file) await open(file);
}

// Bind buttons and keys to actions, accept dropped files, and open the photo that the page was called with.
// buttons: names of actions by ids of buttons, in addition to BUTTONS; dropTargets: see acceptDrops
export async function start(store, { keys, buttons, actions, dropTargets, openPhoto }) {
  const allActions = {
    help: () => byId("help-dialog").showModal(),
    open: () => chooseAndOpen(byId("photo-file"), openPhoto),
    ...actions,
  };
  bindPhoto(store);
  bindButtons({ ...BUTTONS, ...buttons }, allActions);
  bindKeys(keys, allActions, () => Boolean(store.get("photo")));
  buildHelp(keys);
  acceptDrops(dropTargets, byId("drop-overlay"), ({ name }, count) =>
    notice.add(`Of the ${count} files, only ${name} was taken: drop one at a time.`));
  const file = new URLSearchParams(location.search).get("file"); // id of a file that another tool has opened
  if (file) await openPhoto(file);
  document.documentElement.dataset.ready = "true";
}
