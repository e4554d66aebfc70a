// A layer of the stage: an image of the whole photo, and over it one of the visible part in the screen's resolution.

export class Layer {
  constructor(element) {
    this.element = element;
    [this.base, this.detail] = element.querySelectorAll("img");
  }

  async showBase(blob) {
    await replaceImage(this.base, blob);
  }

  // part: [x, y, w, h] of a photo of width and height
  async showDetail(blob, [x, y, w, h], width, height) {
    const percent = (value, whole) => `${(100 * value) / whole}%`;
    const style = {
      left: percent(x, width), top: percent(y, height), width: percent(w, width), height: percent(h, height),
    };
    await replaceImage(this.detail, blob, style);
  }

  hideDetail() {
    release(this.detail);
  }

  clear() {
    [this.base, this.detail].forEach(release);
  }
}

// Decode the next image before it is shown, to avoid flicker.
async function replaceImage(image, blob, style = {}) {
  const next = new Image();
  next.src = URL.createObjectURL(blob);
  await next.decode();
  const old = image.src;
  image.src = next.src;
  Object.assign(image.style, style);
  if (old.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(old), 1000);
}

function release(image) {
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
}
