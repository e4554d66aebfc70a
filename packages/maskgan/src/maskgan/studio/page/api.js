// Requests to the server. Every failure becomes a Refusal with one line for the user.

export class Refusal extends Error {
  constructor(line, { status = 0, aligned = false } = {}) {
    super(line);
    this.status = status;
    this.aligned = aligned; // the photo may be opened as an aligned face
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The studio does not answer. Is it still running in its terminal?");
  }
  if (answer.ok) return answer;
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // a response without an error line
  }
  throw new Refusal(said.error ?? `The studio refused (${answer.status}).`, { status: answer.status, aligned: said.aligned });
}

const post = (path, body, type = "application/octet-stream") =>
  ask(path, { method: "POST", body, headers: { "Content-Type": type } });

export const about = async () => (await ask("/api/about")).json();

export const faceAddress = (id) => `/api/photos/${id}/face.png`;

export async function openPhoto(file, limit, aligned = false) {
  if (file.size > limit) {
    const size = Math.round(file.size / 1e6);
    throw new Refusal(`${file.name}: has ${size} MB; the studio opens photos up to ${Math.round(limit / 1e6)} MB.`);
  }
  const query = new URLSearchParams({ name: file.name, aligned: aligned ? "1" : "0" });
  return (await post(`/api/photos?${query}`, file)).json();
}

export async function photoLabels(id) {
  return new Uint8Array(await (await ask(`/api/photos/${id}/labels`)).arrayBuffer());
}

export async function reread(id, labels) {
  return (await post(`/api/photos/${id}/labels`, labels)).json();
}

// Adapt the network to a photo's face; progress(share) after every step. Aborting the signal cancels.
export async function adapt(id, steps, signal, progress) {
  const answer = await ask(`/api/photos/${id}/adapt?${new URLSearchParams({ steps })}`, { method: "POST", signal });
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
  return new Uint8Array(await (await post(`/api/labels/decode?${query}`, file)).arrayBuffer());
}

export async function encodeLabels(labels) {
  return (await post("/api/labels/encode", labels)).blob();
}

function edit({ photo, labels, parts, view }) {
  let text = "";
  for (let at = 0; at < labels.length; at += 8192) text += String.fromCharCode(...labels.subarray(at, at + 8192));
  return JSON.stringify({ photo, labels: btoa(text), parts, view });
}

export async function render(state) {
  return (await post("/api/render", edit(state), "application/json")).json();
}

// kind: "photo" or "face"
export async function exported(kind, state) {
  const answer = await post(`/api/export/${kind}`, edit(state), "application/json");
  const said = answer.headers.get("Content-Disposition") ?? "";
  const name = /filename\*=UTF-8''([^;]+)/.exec(said)?.[1];
  return { blob: await answer.blob(), name: name ? decodeURIComponent(name) : `edited-${kind}` };
}
