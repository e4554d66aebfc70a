// The panel of export options, and downloads.

import { showSlider } from "./controls.js";
import { byId } from "./dom.js";
import { download } from "./files.js";
import { attempt, notice, withBusy } from "./shell.js";

export const EXPORT_DEFAULTS = {
  format: "", // that of the photo
  quality: null, // that of the format, until the slider is moved
  strip: "",
  provenance: true,
  convert: false, // whether the pixels may lose what the format cannot hold
};

// formats: by name, the default quality, null if lossless, the bits per channel, and whether there is transparency
export function bindExport(store, formats) {
  byId("format").append(new Option("as the photo", ""), ...Object.keys(formats).map((name) => new Option(name.toUpperCase(), name)));
  for (const name of ["format", "strip"]) byId(name).addEventListener("change", () => store.set({ [name]: byId(name).value }));
  for (const name of ["provenance", "convert"]) {
    byId(name).addEventListener("change", ({ target }) => store.set({ [name]: target.checked }));
  }
  byId("quality").addEventListener("input", ({ target }) => store.set({ quality: Number(target.value) }));
  store.subscribe(["format", "photo", "quality"], () => {
    const photo = store.get("photo");
    if (!photo) return;
    const name = store.get("format") || photo.format;
    const { quality } = formats[name];
    byId("quality").disabled = quality === null;
    const shown = store.get("quality") ?? quality ?? 100;
    showSlider("quality", shown, quality === null ? `${name.toUpperCase()} loses nothing` : String(shown));
    const losses = lossesOf(photo, name, formats[name]);
    byId("convert-row").hidden = !losses.length;
    byId("convert-row").lastElementChild.textContent = `Convert: ${losses.join(", ")}`;
  });
}

// What the pixels of a photo lose in a format, which has to be allowed.
const lossesOf = (photo, name, { bits, alpha }) => [
  ...(photo.bits > bits && name !== photo.format ? ["round 16 bits to 8"] : []),
  ...(photo.opacity && !alpha ? ["lay transparency on white"] : []),
];

// Options of an export for the server.
export const exportOptions = (store) => ({
  format: store.get("format") || null,
  quality: store.get("quality"),
  strip: store.get("strip") || null,
  provenance: store.get("provenance"),
  convert: store.get("convert"),
});

// Download what makeFile() returns, {blob, name, losses}, and say what it lacks; return whether it succeeded.
export const save = (message, makeFile, onError) =>
  attempt(async () => {
    const { blob, name, losses } = await withBusy(message, makeFile);
    download(blob, name);
    if (losses) notice.error(`${name} does not carry: ${losses}`);
  }, onError);
