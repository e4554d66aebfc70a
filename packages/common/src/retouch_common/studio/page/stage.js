// The stage of tools for whole photos: the photo before and after, with a divider, rendered live.

import { Compare } from "./compare.js";
import { byId } from "./dom.js";
import { Layer } from "./images.js";
import { LiveRender, formatTime } from "./live.js";
import { fetchAfter, fetchBefore, fetchState } from "./photos.js";
import { reportError } from "./shell.js";
import { Viewport } from "./viewport.js";

export class PhotoStage {
  #details; // LiveRender of the visible part in the screen's resolution
  #live; // LiveRender of the state and the whole photo
  #layers = { after: new Layer(byId("after-layer")), before: new Layer(byId("before-layer")) };

  // currentRequest(): of the steps in the store, or null; onView(): called when the view has changed
  constructor(store, currentRequest, onView) {
    Object.assign(this, { store, element: byId("stage") });
    this.viewport = new Viewport(this.element, document.querySelectorAll(".world"), () => {
      byId("zoom").value = `${Math.round(100 * this.viewport.scale * (window.devicePixelRatio || 1))} %`;
      Object.values(this.#layers).forEach(({ element }) => element.classList.toggle("sharp", this.viewport.scale >= 4));
      onView();
      this.#details.schedule();
    });
    this.compare = new Compare(this.element, byId("divider"), byId("before-layer"), byId("divider"));
    this.#bindHold();
    this.#live = new LiveRender((request) => this.#render(request), currentRequest, {
      onResult: (result, milliseconds, revision) => this.#showResult(result, milliseconds, revision),
      onError: (error) => {
        this.element.dataset.state = "failed";
        reportError(error);
      },
      onBusy: (busy) => byId("latency").classList.toggle("busy", busy),
    });
    this.#details = new LiveRender((request) => this.#renderDetails(request), () => store.get("state") && currentRequest(), {
      onResult: (details, milliseconds, revision) => this.#showDetails(details, revision),
    });
  }

  #hold(held) {
    this.compare.hold(held);
    this.element.classList.toggle("comparing", held); // hides what lies over the photo
    byId("hold").setAttribute("aria-pressed", held);
  }

  // The button is held by a pointer, or by Space or Enter.
  #bindHold() {
    for (const [event, held] of [
      ["pointerdown", true], ["pointerup", false], ["pointerleave", false], ["keydown", true], ["keyup", false], ["blur", false],
    ]) {
      byId("hold").addEventListener(event, ({ key }) => {
        if (!key || key === " " || key === "Enter") this.#hold(held);
      });
    }
  }

  // Actions of the buttons and keys.
  get actions() {
    return { ...this.viewport.actions, hold: (held) => this.#hold(held) };
  }

  // Render soon: the steps have changed.
  schedule() {
    this.#live.schedule();
    this.#details.schedule();
  }

  // Render, and wait until nothing is being rendered.
  settled() {
    return this.#live.settled();
  }

  // Show an opened photo as it is; it becomes the store's.
  async show(photo) {
    delete document.body.dataset.empty;
    byId("welcome").hidden = true;
    this.element.dataset.state = "waiting";
    Object.values(this.#layers).forEach((layer) => layer.clear());
    this.compare.set(0);
    this.store.set({ photo: null, state: null });
    this.viewport.show(photo);
    const image = await fetchBefore(photo.id, this.viewport.whole);
    await Promise.all(Object.values(this.#layers).map((layer) => layer.showBase(image)));
    this.store.set({ photo });
  }

  // Whether the screen shows more than the image of the whole photo has.
  get #needsDetail() {
    return this.viewport.scale > 1.02 * this.viewport.fitScale || this.viewport.exceedsProxy;
  }

  async #render(request) {
    const [state, blob] = await Promise.all([fetchState(request), fetchAfter(request, this.viewport.whole)]);
    return { state, blob };
  }

  async #showResult({ state, blob }, milliseconds, revision) {
    await this.#layers.after.showBase(blob);
    this.store.set({ state });
    byId("latency").textContent = formatTime(milliseconds);
    Object.assign(this.element.dataset, { state: "ready", revision });
  }

  async #renderDetails(request) {
    if (!this.#needsDetail) return null;
    const view = this.viewport.visible;
    const [before, after] = await Promise.all([fetchBefore(request.photo, view), fetchAfter(request, view)]);
    return { window: view.window, before, after };
  }

  async #showDetails(details, revision) {
    const { width, height } = this.store.get("photo");
    for (const [name, layer] of Object.entries(this.#layers)) {
      if (details && this.#needsDetail) await layer.showDetail(details[name], details.window, width, height);
      else layer.hideDetail();
    }
    this.element.dataset.detail = details ? revision : "";
  }
}
