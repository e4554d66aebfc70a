// Requests to the server. Every failure becomes a Refusal with one line for the user.

export class Refusal extends Error {
  constructor(line, { status = 0, ...hints } = {}) {
    super(line);
    Object.assign(this, { status, hints }); // hints: what the server says beside the line
  }
}

export async function ask(path, options = {}) {
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
  const { error, ...hints } = said;
  throw new Refusal(error ?? `The studio refused (${answer.status}).`, { status: answer.status, ...hints });
}

export const post = (path, body, type = "application/octet-stream") =>
  ask(path, { method: "POST", body, headers: { "Content-Type": type } });

// The answer's file and the name that the server gives it.
export async function received(answer, otherwise) {
  const name = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("Content-Disposition") ?? "")?.[1];
  return { blob: await answer.blob(), name: name ? decodeURIComponent(name) : otherwise };
}

export const about = async () => (await ask("api/about")).json();

// Open a photo: a File, or the id of a file that another tool shows. more: further parameters of the tool.
export async function openPhoto(file, limit, more = {}) {
  if (typeof file === "string") return (await post(`api/photos?${new URLSearchParams({ file, ...more })}`)).json();
  if (file.size > limit) {
    const size = Math.round(file.size / 1e6);
    throw new Refusal(`${file.name}: has ${size} MB; the studio opens photos up to ${Math.round(limit / 1e6)} MB.`);
  }
  return (await post(`api/photos?${new URLSearchParams({ name: file.name, ...more })}`, file)).json();
}
