// Opening and saving files.

import { create } from "./dom.js";

// Open the file dialog; null when it is cancelled.
export function chooseFile(input) {
  return new Promise((resolve) => {
    input.value = "";
    input.onchange = () => resolve(input.files[0] ?? null);
    input.oncancel = () => resolve(null);
    input.click();
  });
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  create("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// Accept files dropped on the page. targets: [element, overlay text, handler]; the first that contains the pointer wins.
// Of several files the first is handled, then onSeveral(file, count) is called.
export function acceptDrops(targets, overlay, onSeveral) {
  let depth = 0;
  const hasFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const targetOf = (event) => targets.find(([element]) => element.contains(event.target));
  const highlight = (event) => {
    const target = event && targetOf(event);
    targets.forEach(([element]) => element.classList.toggle("dropping", element === target?.[0]));
    overlay.hidden = !target;
    if (target) overlay.firstElementChild.textContent = target[1];
  };
  window.addEventListener("dragenter", (event) => {
    if (hasFile(event)) depth++;
  });
  window.addEventListener("dragover", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    highlight(event);
  });
  window.addEventListener("dragleave", (event) => {
    if (hasFile(event) && --depth <= 0) highlight(null);
  });
  window.addEventListener("drop", async (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    depth = 0;
    const target = targetOf(event);
    highlight(null);
    const { files } = event.dataTransfer;
    const [file, count] = [files[0], files.length]; // emptied when the event is over
    if (!target || !file) return;
    await target[2](file);
    if (count > 1) onSeveral(file, count);
  });
}
