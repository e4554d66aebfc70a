// Requests of the Retouch tool. request: {photo, network, steps, time}

import { fetchOk, post, readDownload } from "../shell/api.js";

const send = (path, content, options = {}) =>
  fetchOk(path, { method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json" }, ...options });

export const state = async (request) => (await send("api/state", request)).json();

// The window [x, y, w, h] of the photo as an image of `size`.
export async function before(photo, window, size) {
  const [x, y, w, h] = window;
  const query = new URLSearchParams({ x, y, w, h, width: size[0], height: size[1] });
  return (await fetchOk(`api/photos/${photo}/before?${query}`)).blob();
}

export const faces = async (photo) => (await (await fetchOk(`api/photos/${photo}/faces`)).json()).faces;

export const after = async (request, window, size) => (await send("api/view", { ...request, window, size })).blob();

export const overlay = async (request, name) => (await (await send("api/overlay", { ...request, name })).json()).parts;

export const exportPhoto = async (request, options) =>
  readDownload(await send("api/export", { ...request, options }), "retouched");

export const exportChange = async (request) => readDownload(await send("api/export/change", request), "change.tif");

// Save the recipe: {saved: path} if it was written beside the photo, else {blob, name}.
export async function saveRecipe(request) {
  const response = await send("api/recipe", request);
  return response.headers.get("Content-Disposition") ? readDownload(response, "recipe.json") : response.json();
}

export async function openRecipe(photo, file) {
  return (await post(`api/photos/${photo}/recipe?${new URLSearchParams({ name: file.name })}`, file)).json();
}
