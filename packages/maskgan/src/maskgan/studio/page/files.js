// Files in and out of the page.

// Ask for a file; null when the dialog is closed without one.
export function chooseFile(input) {
  return new Promise((resolve) => {
    input.value = "";
    input.onchange = () => resolve(input.files[0] ?? null);
    input.oncancel = () => resolve(null);
    input.click();
  });
}

export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// Files dropped anywhere on the page. places: [element, words for the veil, what takes the file]; the first whose
// element holds the pointer counts.
export function acceptDrops(places, veil) {
  let depth = 0;
  const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const placeOf = (event) => places.find(([element]) => element.contains(event.target));
  const mark = (event) => {
    const place = event && placeOf(event);
    places.forEach(([element]) => element.classList.toggle("dropping", element === place?.[0]));
    veil.hidden = !place;
    if (place) veil.firstElementChild.textContent = place[1];
  };
  window.addEventListener("dragenter", (event) => {
    if (carriesFile(event)) depth++;
  });
  window.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    mark(event);
  });
  window.addEventListener("dragleave", (event) => {
    if (carriesFile(event) && --depth <= 0) mark(null);
  });
  window.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    depth = 0;
    const place = placeOf(event);
    mark(null);
    const file = event.dataTransfer.files[0];
    if (place && file) place[2](file);
  });
}
