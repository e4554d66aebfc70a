// Requests of the Retouch tool. request: {photo, network, steps, time}

import { fetchOk, post, postJson, readDownload } from "../shell/api.js";

export const faces = async (photo) => (await (await fetchOk(`api/photos/${photo}/faces`)).json()).faces;

export const overlay = async (request, name) => (await (await postJson("api/overlay", { ...request, name })).json()).parts;

// Save the recipe: {saved: path} if it was written beside the photo, else {blob, name}.
export async function saveRecipe(request) {
  const response = await postJson("api/recipe", request);
  return response.headers.get("Content-Disposition") ? readDownload(response, "recipe.json") : response.json();
}

export async function openRecipe(photo, file) {
  return (await post(`api/photos/${photo}/recipe?${new URLSearchParams({ name: file.name })}`, file)).json();
}
