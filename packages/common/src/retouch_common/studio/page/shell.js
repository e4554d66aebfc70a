// The shell around every tool: header, notices, busy indicator, tabs.

import { RequestError } from "./api.js";
import { Notice } from "./notice.js";

export const byId = (id) => document.getElementById(id);
export const notice = new Notice();

// Id of the file that the page is opened with, or null.
export const startFile = new URLSearchParams(location.search).get("file");

// Show a RequestError, with an action [label, handler] if given; other errors are bugs and thrown again.
export function reportError(error, action = null) {
  if (!(error instanceof RequestError)) throw error;
  notice.error(error.message, action);
}

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

// Keep the photo's name, the tabs' links and the availability of controls up to date with the store.
export function bindPhoto(store) {
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
    if (store.get("unsaved")) event.preventDefault();
  });
}

// buttons: names of actions by ids of buttons
export function bindButtons(buttons, actions) {
  for (const [id, name] of Object.entries(buttons)) byId(id).addEventListener("click", () => actions[name]());
}
