// Requests of the Edit tool.

import { RequestError, fetchOk, json, post, postJson, readDownload } from "../shell/api.js";

const bytes = async (response) => new Uint8Array(await (await response).arrayBuffer());

export const faceUrl = (id) => `api/photos/${id}/face.png`;

export const photoLabels = (id) => bytes(fetchOk(`api/photos/${id}/labels`));

// Open another face of a photo.
export const openFace = (id, index) => json(post(`api/photos/${id}/faces/${index}`));

export const reencode = (id, labels) => json(post(`api/photos/${id}/labels`, labels));

// Adapt the network to a photo's face; onProgress(fraction) is called after every step. Aborting the signal cancels.
export async function adapt(id, steps, signal, onProgress) {
  const response = await fetchOk(`api/photos/${id}/adapt?${new URLSearchParams({ steps })}`, { method: "POST", signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    text += value ?? "";
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      const message = JSON.parse(line);
      if (message.error) throw new RequestError(message.error);
      if (message.photo) return message.photo;
      onProgress(message.taken / message.steps);
    }
    if (done) throw new RequestError("The studio stopped before the network was adapted.");
  }
}

export const decodeLabels = (file) => bytes(post(`api/labels/decode?${new URLSearchParams({ name: file.name })}`, file));

export const encodeLabels = async (labels) => (await post("api/labels/encode", labels)).blob();

export const render = (edit) => json(postJson("api/render", edit));

// kind: "photo", "change" or "face"
export const exportResult = async (kind, edit, options = {}) =>
  readDownload(await postJson(`api/export/${kind}`, { ...edit, options }), `edited-${kind}`);
