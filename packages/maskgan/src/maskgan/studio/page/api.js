// Requests of the Edit tool.

import { RequestError, fetchOk, post, postJson, readDownload } from "../shell/api.js";

export const faceUrl = (id) => `api/photos/${id}/face.png`;

export async function photoLabels(id) {
  return new Uint8Array(await (await fetchOk(`api/photos/${id}/labels`)).arrayBuffer());
}

// Open another face of a photo.
export async function openFace(id, index) {
  return (await post(`api/photos/${id}/faces/${index}`)).json();
}

export async function reencode(id, labels) {
  return (await post(`api/photos/${id}/labels`, labels)).json();
}

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

export async function decodeLabels(file) {
  const query = new URLSearchParams({ name: file.name });
  return new Uint8Array(await (await post(`api/labels/decode?${query}`, file)).arrayBuffer());
}

export async function encodeLabels(labels) {
  return (await post("api/labels/encode", labels)).blob();
}

export async function render(edit) {
  return (await postJson("api/render", edit)).json();
}

// kind: "photo", "change" or "face"
export async function exportResult(kind, edit, options = {}) {
  const response = await postJson(`api/export/${kind}`, { ...edit, options });
  return readDownload(response, `edited-${kind}`);
}
