// Opening and saving files.

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
  const address = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// Files dropped on the page. places: [element, overlay text, handler]; the first whose element contains the pointer wins.
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
