// Requests to the server. Failures are thrown as a RequestError, whose message is one line for the user.

export class RequestError extends Error {
  constructor(line, { status = 0, ...hints } = {}) {
    super(line);
    Object.assign(this, { status, hints }); // hints: further fields of the server's error
  }
}

export async function fetchOk(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError("The studio does not answer. Is it still running in its terminal?");
  }
  if (response.ok) return response;
  let body = {};
  try {
    body = await response.json();
  } catch {
    // a response without an error line
  }
  const { error, ...hints } = body;
  throw new RequestError(error ?? `The studio refused (${response.status}).`, { status: response.status, ...hints });
}

export const post = (path, body, type = "application/octet-stream") =>
  fetchOk(path, { method: "POST", body, headers: { "Content-Type": type } });

// The content of a response that is yet to come.
export const json = async (response) => (await response).json();

export const postJson = (path, content) => post(path, JSON.stringify(content), "application/json");

// The file of a response, its name, and the photo's metadata that it does not carry, "" without any.
export async function readDownload(response, defaultName) {
  const name = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition") ?? "")?.[1];
  const losses = decodeURIComponent(response.headers.get("X-Losses") ?? "");
  return { blob: await response.blob(), name: name ? decodeURIComponent(name) : defaultName, losses };
}

export const fetchAbout = () => json(fetchOk("api/about"));

// Open a photo: a File, or the id of a file that is open in another tool. params: further query parameters.
export async function openPhoto(file, limit, params = {}) {
  if (typeof file === "string") return json(post(`api/photos?${new URLSearchParams({ file, ...params })}`));
  if (file.size > limit) {
    const size = Math.round(file.size / 1e6);
    throw new RequestError(`${file.name}: has ${size} MB; the studio opens photos up to ${Math.round(limit / 1e6)} MB.`);
  }
  return json(post(`api/photos?${new URLSearchParams({ name: file.name, ...params })}`, file));
}
