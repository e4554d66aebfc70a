// Requests of the Retouch tool. A request: {photo, network, steps, time}.

import { ask, post, received } from "../shell/api.js";

const send = (path, content, options = {}) =>
  ask(path, { method: "POST", body: JSON.stringify(content), headers: { "Content-Type": "application/json" }, ...options });

export const state = async (request) => (await send("api/state", request)).json();

// The part [x, y, w, h] of the photo as an image of `size`; addresses of blobs are released by the caller.
export async function before(photo, window, size) {
  const [x, y, w, h] = window;
  const query = new URLSearchParams({ x, y, w, h, width: size[0], height: size[1] });
  return (await ask(`api/photos/${photo}/before?${query}`)).blob();
}

export const faces = async (photo) => (await (await ask(`api/photos/${photo}/faces`)).json()).faces;

export const after = async (request, window, size) => (await send("api/view", { ...request, window, size })).blob();

export const overlay = async (request, name) => (await (await send("api/overlay", { ...request, name })).json()).parts;

export const exported = async (request, options) =>
  received(await send("api/export", { ...request, options }), "retouched");

export const exportedChange = async (request) => received(await send("api/export/change", request), "change.tif");

// Save the recipe: {saved} where it was written beside the photo, else {blob, name}.
export async function recipe(request) {
  const answer = await send("api/recipe", request);
  return answer.headers.get("Content-Disposition") ? received(answer, "recipe.json") : answer.json();
}

export async function openRecipe(photo, file) {
  return (await post(`api/photos/${photo}/recipe?${new URLSearchParams({ name: file.name })}`, file)).json();
}
