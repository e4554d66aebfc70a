// Requests that tools for whole photos share. request: {photo: ID, steps, ...}; view: {window, size} of a Viewport

import { fetchOk, json, postJson, readDownload } from "./api.js";

export const fetchState = (request) => json(postJson("api/state", request));

export async function fetchBefore(photo, { window: [x, y, w, h], size: [width, height] }) {
  return (await fetchOk(`api/photos/${photo}/before?${new URLSearchParams({ x, y, w, h, width, height })}`)).blob();
}

export const fetchAfter = async (request, view) => (await postJson("api/view", { ...request, ...view })).blob();

export const exportPhoto = async (request, options) =>
  readDownload(await postJson("api/export", { ...request, options }), "photo");

// The change alone, a TIFF file.
export const exportChange = async (request) => readDownload(await postJson("api/export/change", request), "change.tif");
