// The panel of export options, and downloads.

import { download } from "./files.js";
import { bindSlider } from "./range.js";
import { attempt, byId, withBusy } from "./shell.js";

const LOSSLESS = ["png", "tif"]; // formats without a quality

export const EXPORT_DEFAULTS = { format: "", quality: 95, strip: "", provenance: true };

export function bindExport(store, formats) {
  byId("format").append(new Option("as the photo", ""), ...formats.map((format) => new Option(format.toUpperCase(), format)));
  for (const name of ["format", "strip"]) byId(name).addEventListener("change", () => store.set({ [name]: byId(name).value }));
  byId("provenance").addEventListener("change", ({ target }) => store.set({ provenance: target.checked }));
  bindSlider("quality", store, String);
  store.subscribe(["format", "photo", "quality"], () => {
    const format = store.get("format") || store.get("photo")?.format;
    const lossless = LOSSLESS.includes(format);
    byId("quality").disabled = lossless;
    byId("quality-value").value = lossless ? `${format.toUpperCase()} loses nothing` : store.get("quality");
  });
}

// Options of an export for the server.
export const exportOptions = (store) => ({
  format: store.get("format") || null,
  quality: store.get("quality"),
  strip: store.get("strip") || null,
  provenance: store.get("provenance"),
});

// Download what makeFile() returns, {blob, name}; return whether it succeeded.
export const save = (message, makeFile, onError) =>
  attempt(async () => {
    const { blob, name } = await withBusy(message, makeFile);
    download(blob, name);
  }, onError);
