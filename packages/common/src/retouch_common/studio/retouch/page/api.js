// Requests of the Retouch tool. request: {photo, network, steps, time}

import { fetchOk, json, post, postJson, readDownload } from "../shell/api.js";

export const faces = async (photo) => (await json(fetchOk(`api/photos/${photo}/faces`))).faces;

export const overlay = async (request, name) => (await json(postJson("api/overlay", { ...request, name }))).parts;

// Save the recipe: {saved: path} if it was written beside the photo, else {blob, name}.
export async function saveRecipe(request) {
  const response = await postJson("api/recipe", request);
  return response.headers.get("Content-Disposition") ? readDownload(response, "recipe.json") : response.json();
}

export const openRecipe = (photo, file) =>
  json(post(`api/photos/${photo}/recipe?${new URLSearchParams({ name: file.name })}`, file));
