// The page's frame: bar, notices, the busy line, links to the other tools.

import { Refusal } from "./api.js";
import { Notice } from "./notice.js";

export const byId = (id) => document.getElementById(id);
export const notice = new Notice();

// Id of the photo's file that the page was opened with, or null.
export const startFile = new URLSearchParams(location.search).get("file");

// Show a refusal in one line, with an action [label, handler] if given; other errors are bugs.
export function failed(error, action = null) {
  if (!(error instanceof Refusal)) throw error;
  notice.error(error.message, action);
}

let tasks = 0;

export async function busyWith(words, work) {
  tasks++;
  byId("busy").hidden = false;
  byId("busy").lastElementChild.textContent = words;
  try {
    return await work();
  } finally {
    byId("busy").hidden = --tasks === 0;
  }
}

// Show the photo's name and size; parts of the page that need a photo cannot be used without one.
export function followPhoto(store) {
  const tool = document.body.dataset.tool;
  const links = [...document.querySelectorAll("#tabs a")];
  links.forEach((link) => (link.dataset.address = link.getAttribute("href")));
  store.follow(["photo"], () => {
    const photo = store.get("photo");
    document.querySelectorAll(".needs-photo").forEach((part) => (part.inert = !photo));
    byId("photo-name").textContent = photo ? `${photo.name}  ${photo.width} × ${photo.height}` : "";
    byId("photo-name").title = photo?.name ?? "";
    document.title = photo ? `${photo.name} – ${tool} – retouch studio` : `${tool} – retouch studio`;
    const query = photo ? `?${new URLSearchParams({ file: photo.file })}` : "";
    links.forEach((link) => (link.href = link.dataset.address + query));
  });
  window.addEventListener("beforeunload", (event) => {
    if (store.get("unsaved")) event.preventDefault();
  });
}

// buttons: names of actions by the buttons' ids
export function wire(buttons, actions) {
  for (const [id, name] of Object.entries(buttons)) byId(id).addEventListener("click", () => actions[name]());
}
