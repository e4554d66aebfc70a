// Requests of the Edit tool.

import { Refusal, ask, post, received } from "../shell/api.js";

export const faceAddress = (id) => `api/photos/${id}/face.png`;

export async function photoLabels(id) {
  return new Uint8Array(await (await ask(`api/photos/${id}/labels`)).arrayBuffer());
}

export async function reread(id, labels) {
  return (await post(`api/photos/${id}/labels`, labels)).json();
}

// Adapt the network to a photo's face; progress(share) after every step. Aborting the signal cancels.
export async function adapt(id, steps, signal, progress) {
  const answer = await ask(`api/photos/${id}/adapt?${new URLSearchParams({ steps })}`, { method: "POST", signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    text += value ?? "";
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) {
      const said = JSON.parse(line);
      if (said.error) throw new Refusal(said.error);
      if (said.photo) return said.photo;
      progress(said.taken / said.steps);
    }
    if (done) throw new Refusal("The studio stopped before the network was adapted.");
  }
}

export async function decodeLabels(file) {
  const query = new URLSearchParams({ name: file.name });
  return new Uint8Array(await (await post(`api/labels/decode?${query}`, file)).arrayBuffer());
}

export async function encodeLabels(labels) {
  return (await post("api/labels/encode", labels)).blob();
}

function edit({ photo, labels, parts, view }) {
  let text = "";
  for (let at = 0; at < labels.length; at += 8192) text += String.fromCharCode(...labels.subarray(at, at + 8192));
  return JSON.stringify({ photo, labels: btoa(text), parts, view });
}

export async function render(state) {
  return (await post("api/render", edit(state), "application/json")).json();
}

// kind: "photo" or "face"
export async function exported(kind, state) {
  const answer = await post(`api/export/${kind}`, edit(state), "application/json");
  return received(answer, `edited-${kind}`);
}
