"""Page objects of the studio's tools in headless Chromium.

with chromium() as browser, serve(app) as address:
with open_tool(RetouchPage, browser, address, folder / "photo.png") as page:
page.stroke((10, 10), (20, 20))
page.rendered()
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import pytest
import pyvips

if TYPE_CHECKING:
    from starlette.types import ASGIApp

ROOT = "http://127.0.0.1:8765"
TOKEN, ONE_TIME_TOKEN = "shown-in-the-terminal", "for-a-single-use"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TIMEOUT = 30_000  # milliseconds
LONG_NAME = "IMG_20240512_123456_portrait_of_the_astronaut_final_retouched_version_2.png"
WINDOWS = ((1280, 720), (1180, 820), (1024, 768), (900, 700), (768, 1024))  # width, height


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a Playwright browser; skip the test without Chromium, or fail it if RETOUCH_BROWSER is "required"."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        reason = f"no Chromium here (looked for {', '.join(BROWSERS)})"
        if os.environ.get("RETOUCH_BROWSER") == "required":
            pytest.fail(f"{reason}, and RETOUCH_BROWSER=required")
        pytest.skip(reason)
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    """Serve an application in a thread, as the command does; yield its address."""
    import uvicorn

    from retouch_common.studio.cli import server_config

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(server_config(app))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class ToolPage:
    """A tool's page.

    Args:
        page: Playwright's page.
        folder: Folder of downloads.
    """

    name: ClassVar[str]
    """Name of the tool."""
    plane: ClassVar[str] = "#after-layer .world"
    """Selector of the element that shows the whole photo, or mask."""
    result: ClassVar[str] = "#stage"
    """Selector of the element whose data attributes tell the state of rendering."""
    size: ClassVar[tuple[int, int]]
    """Width and height of what ``plane`` shows, in pixels."""

    errors_expected = False
    """Whether the test provokes errors, which browsers note on the console."""

    def __init__(self, page: Any, folder: Path) -> None:
        self.page, self.folder = page, folder

    def choose(self, selector: str, *paths: Path) -> None:
        """Choose files in the dialog that an element opens."""
        with self.page.expect_file_chooser() as chooser:
            self.page.click(selector)
        chooser.value.set_files([str(path) for path in paths])

    def download(self, selector: str) -> Path:
        """Return the file that an element downloads."""
        with self.page.expect_download() as download:
            self.page.click(selector)
        path = self.folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def keys(self, *names: str) -> None:
        """Press keys."""
        for name in names:
            self.page.keyboard.press(name)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the position on the screen of a pixel's centre."""
        box = self.page.locator(self.plane).bounding_box()
        width, height = self.size
        return box["x"] + (x + 0.5) * box["width"] / width, box["y"] + (y + 0.5) * box["height"] / height

    def click(self, x: float, y: float, **options: Any) -> None:
        """Click a pixel."""
        self.page.mouse.click(*self.at(x, y), **options)

    def stroke(self, *points: tuple[float, float]) -> None:
        """Drag the mouse over pixels."""
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point))
        self.page.mouse.up()

    def require_fit(self, width: int, height: int, *selectors: str) -> None:
        """Resize the window; fail if the page is wider than it, or an element reaches out of it."""
        self.page.set_viewport_size({"width": width, "height": height})
        wide = self.page.evaluate(
            "[...document.querySelectorAll('body, .panel, .bar')]"
            ".map((e) => [e.className, e.scrollWidth - e.clientWidth])"
        )
        assert all(excess <= 0 for _, excess in wide), wide
        for selector in ("body", "#help", "#zoom-fit", *selectors):
            box = self.page.locator(selector).bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width, (selector, box)
            assert box["y"] >= 0 and box["y"] + box["height"] <= height, (selector, box)
        stage = self.page.locator("#stage").bounding_box()
        assert stage["width"] >= 400 and stage["height"] >= 400, stage

    def rendered(self, since: int = -1) -> int:
        """Wait for a result newer than a revision, with no other on its way; return its revision."""
        self.page.wait_for_function(
            f"since => document.querySelector('{self.result}').dataset.state === 'ready'"
            f" && Number(document.querySelector('{self.result}').dataset.revision) > since"
            " && !document.querySelector('#latency').classList.contains('busy')",
            arg=since,
        )
        return int(self.page.locator(self.result).get_attribute("data-revision"))

    def pixels(self, selector: str = "#after", size: tuple[int, int] | None = None) -> np.ndarray:
        """Return an image of the page, (H, W, 3) int, by default in its own size."""
        width, height = size or ("img.naturalWidth", "img.naturalHeight")
        url = self.page.locator(selector).evaluate(
            "async (img) => {"
            " if (!img.complete) await new Promise((load) => img.addEventListener('load', load, { once: true }));"
            " await img.decode(); const c = document.createElement('canvas');"
            f" c.width = {width}; c.height = {height};"
            " c.getContext('2d').drawImage(img, 0, 0, c.width, c.height); return c.toDataURL(); }"
        )
        return decode_data_url(url)


Page = TypeVar("Page", bound=ToolPage)


@contextmanager
def open_tool(
    page_class: type[Page],
    browser: Any,
    address: str,
    photo: Path,
    *,
    height: int = 720,
    touch: bool = True,
    mobile: bool = False,
) -> Iterator[Page]:
    """Yield the page of a tool, the first of the application, with a photo open.

    ``touch`` is a screen that fingers can use, ``mobile`` a tablet's browser.

    At the end, nothing may have been loaded from elsewhere, and there may be no errors on the console unless they are
    expected.
    """
    context = browser.new_context(viewport={"width": 1280, "height": height}, has_touch=touch, is_mobile=mobile)
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    errors: list[str] = []
    urls: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"{address}/?token={TOKEN}")
    page.wait_for_url(f"{address}/{page_class.name}/")
    page.wait_for_selector("html[data-ready]")
    tool = page_class(page, photo.parent)
    tool.choose("#open", photo)
    tool.rendered()
    yield tool
    assert tool.errors_expected or errors == []
    assert urls and all(url.startswith((address, "data:", f"blob:{address}")) for url in urls)
    context.close()


def decode_data_url(url: str) -> np.ndarray:
    """Return the image of a data URL, (H, W, 3) int."""
    image = pyvips.Image.new_from_buffer(base64.b64decode(url.partition(",")[2]), "")
    return image.numpy().reshape(image.height, image.width, image.bands)[..., :3].astype(int)
