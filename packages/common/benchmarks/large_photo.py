"""What the studio promises for large photographs; evidence.py registers it.

A JPEG of 100 megapixels, with the astronaut in it, is opened in headless Chromium by the tool Retouch, whose network is
loaded. Seconds are counted from choosing the file until the photo is on the page, frames while it is dragged at 1:1.
"""

import functools
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from retouch_common.inference.demo import astronaut
from retouch_common.studio.retouch.server import retouch_tool
from retouch_common.studio.server import create_app
from retouch_common.studio.tools import ToolContext
from retouch_common.testing.evidence import Evidence, NotMeasured
from retouch_common.testing.studio import TIMEOUT, TOKEN, chromium, serve

SIDE = 10_000
OPENINGS = 3
DRAGGED = (60, 6)  # moves of the mouse, of so many pixels each
DETAIL = "#before-layer .detail"
ON_PAGE = "() => document.querySelector('#before').naturalWidth > 0"
FRAMES = """() => {
  window.frames = [];
  let last = performance.now();
  const next = (now) => { window.frames.push(now - last); last = now; requestAnimationFrame(next); };
  requestAnimationFrame(next);
}"""


def promise(evidence: Evidence) -> None:
    """Register the figures."""

    @evidence.figure("studio: a JPEG of 100 megapixels is on the page after", at_most=3, unit="s")
    def open_100mp():
        opened = measured()["until it is on the page"]
        faces = measured()["until its faces are found"]
        return statistics.median(opened), {"openings": opened, "until its faces are found": faces}

    @evidence.figure("studio: between frames while 100 megapixels are dragged, 95th percentile", at_most=50, unit="ms")
    def pan_100mp():
        frames = measured()["frames"]
        details = {"frames": len(frames), "median": statistics.median(frames), "worst": max(frames)}
        return float(np.percentile(frames, 95)), details | {"until the part is sharp, s": measured()["sharp"]}


@functools.cache
def measured() -> dict[str, Any]:
    """Open the photo several times; drag it after the last."""
    found: dict[str, Any] = {"until it is on the page": [], "until its faces are found": []}
    with tempfile.TemporaryDirectory() as name, studio_page(Path(name)) as page:
        photo = Path(name) / "large.jpg"
        save_large(photo)
        for _ in range(OPENINGS):
            began = open_photo(page, photo)
            page.wait_for_function(ON_PAGE, polling=20)
            found["until it is on the page"].append(round(time.perf_counter() - began, 2))
            page.wait_for_selector(".face-chip")
            found["until its faces are found"].append(round(time.perf_counter() - began, 2))
            page.wait_for_selector("#stage[data-state=ready]")
        return found | drag(page)


@contextmanager
def studio_page(folder: Path) -> Iterator[Any]:
    """Yield the page of the tool Retouch, whose network is loaded."""
    uploads = folder / "uploads"
    uploads.mkdir()
    context = ToolContext(folder=uploads, device="cpu")
    tool = retouch_tool(context)
    if tool is None:
        raise NotMeasured("no network of the Retouch tool is installed")
    tool.prepare()
    try:
        with chromium() as browser, serve(create_app([tool], context, TOKEN)) as address:
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(4 * TIMEOUT)
            page.goto(f"{address}/?token={TOKEN}")
            page.wait_for_selector("html[data-ready]")
            yield page
    except pytest.skip.Exception as error:
        raise NotMeasured(str(error)) from None


def open_photo(page: Any, photo: Path) -> float:
    """Choose a file on the page, which is empty; return the time."""
    page.reload()
    page.wait_for_selector("html[data-ready]")
    with page.expect_file_chooser() as chooser:
        page.click("#open")
    began = time.perf_counter()
    chooser.value.set_files([str(photo)])
    return began


def drag(page: Any) -> dict[str, Any]:
    """Drag the photo at 1:1; return milliseconds between frames, and seconds until the part is sharp."""
    page.keyboard.press("1")
    page.wait_for_selector(f"{DETAIL}[src]")
    page.mouse.move(800, 500)
    page.mouse.down()
    page.evaluate(FRAMES)
    moves, pixels = DRAGGED
    for move in range(moves):
        page.mouse.move(800 - move * pixels, 500 - move * pixels // 2)
    frames = page.evaluate("() => window.frames")
    shown = page.locator(DETAIL).get_attribute("src")
    page.mouse.up()
    began = time.perf_counter()
    page.wait_for_function(f"(shown) => document.querySelector('{DETAIL}').src !== shown", arg=shown, polling=20)
    return {"frames": frames, "sharp": round(time.perf_counter() - began, 2)}


def save_large(path: Path) -> None:
    """Write a smooth picture with noise, and the astronaut, enlarged, in it."""
    y, x = np.mgrid[: SIDE // 10, : SIDE // 10]
    smooth = 120 + 60 * np.sin(x[..., None] / 90 + y[..., None] / 130 + np.arange(3))
    picture = pyvips.Image.new_from_array(smooth.astype(np.uint8)).resize(10)
    picture = picture.insert(pyvips.Image.new_from_array(astronaut()).resize(6), SIDE // 3, SIDE // 4)
    noisy = picture + pyvips.Image.gaussnoise(SIDE, SIDE, sigma=4, mean=0)
    noisy.cast("uchar").copy(interpretation="srgb").jpegsave(str(path), Q=92)
