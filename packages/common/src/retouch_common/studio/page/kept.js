// What was done to a photo, kept in this tab of the browser until the tool is opened again with the photo.

import { byId } from "./dom.js";

const keyOf = (photo) => `${document.body.dataset.tool} ${photo.file}`;

// Keep values of the store for its photo whenever one changes. Tabs of other tools then open without a warning.
export function keepForPhoto(store, names) {
  let kept = false;
  store.subscribe(names, () => {
    const photo = store.get("photo");
    if (!photo) return;
    try {
      sessionStorage.setItem(keyOf(photo), JSON.stringify(Object.fromEntries(names.map((name) => [name, store.get(name)]))));
      kept = true;
    } catch {
      sessionStorage.removeItem(keyOf(photo)); // too large
      kept = false;
    }
  });
  byId("tabs").addEventListener("click", (event) => {
    const here = !(event.ctrlKey || event.metaKey || event.shiftKey);
    if (kept && here && event.target.closest("a")) store.set({ leaving: true });
  });
}

// The values that were kept for a photo, or null.
export const keptForPhoto = (photo) => JSON.parse(sessionStorage.getItem(keyOf(photo)));
