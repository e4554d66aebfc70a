"""Draw docs/pictures: what the bundled weights do to scikit-image's astronaut, and the studio's tools on her portrait.

`nox -s pictures` calls it. The architecture's picture is drawn by hand.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import abpn.demo
import bpfre.demo
import maskgan.demo
import mofrr.demo
import numpy as np
import pyvips
from retouch_common.faces.alignment import face_square
from retouch_common.inference import demo
from retouch_common.inference.regions import faces_from_boxes
from retouch_common.studio.server import create_app
from retouch_common.studio.tools import ToolContext, create_tools, installed_factories
from retouch_common.testing.studio import TOKEN, ToolPage, chromium, open_tool, serve

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH = 1286  # of the sheets
ENLARGED = 3  # the portrait in the studio: a face of the size that a phone takes


def main() -> None:
    """Draw all pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_sheets(folder)
        draw_studio(folder)


def draw_sheets(folder: Path) -> None:
    """Run the demos; save the papers side by side, and maskgan's edits."""
    for paper in (abpn, bpfre):
        paper.demo.main(str(folder / paper.__name__))
    demo.compare(folder, ["abpn", "bpfre"])
    maskgan.demo.main(str(folder / "maskgan"))
    save(folder / "astronaut.png", "astronaut")
    save(folder / "maskgan" / "astronaut.png", "maskgan")


def draw_studio(folder: Path) -> None:
    """Take a screenshot of every tool at work."""
    portrait = demo.astronaut()
    (face,) = faces_from_boxes([demo.FACE])
    square = mofrr.demo.whole_pixels(face_square(face, *portrait.shape[:2]))
    shots: tuple[tuple[str, type[Shot], np.ndarray], ...] = (
        ("studio_retouch", RetouchPage, demo.draw_blemishes(portrait)[0]),
        ("studio_restore", RestorePage, mofrr.demo.retouch(portrait, square, ("white",))),
        ("studio", EditPage, portrait),
    )
    context = ToolContext(folder=folder, device="cpu")
    tools = create_tools(installed_factories(), context)
    path = folder / "astronaut.jpg"
    with chromium() as browser:
        for name, page_class, photo in shots:
            pyvips.Image.new_from_array(photo).resize(ENLARGED).write_to_file(str(path), Q=95)
            app = create_app(tools, context, TOKEN, first=page_class.name)
            with (
                serve(app) as address,
                open_tool(page_class, browser, address, path, height=800, touch=False) as page,
            ):
                page.act()
                page.rendered()
                page.page.screenshot(path=folder / f"{name}.png")
            save(folder / f"{name}.png", name)


class Shot(ToolPage):
    """A tool that shows a photo before and after, at the face and compared in its middle."""

    def act(self) -> None:
        """Bring the page into the state that is shown."""
        self.page.click("#zoom-face")
        self.page.locator("#divider").focus()
        self.keys("Home", *10 * ["ArrowRight"])


class RetouchPage(Shot):
    """The tool Retouch with its changes outlined."""

    name = "retouch"

    def act(self) -> None:  # noqa: D102
        super().act()
        self.keys("o")


class RestorePage(Shot):
    """The tool Restore with one expert switched on."""

    name = "restore"

    def act(self) -> None:  # noqa: D102
        revision = self.rendered()
        self.page.locator(".expert input[type=checkbox]").first.check()
        self.rendered(revision)
        super().act()


class EditPage(Shot):
    """The tool Edit with lips painted over the teeth."""

    name, plane, result, size = "edit", "#labels", "#result", (256, 256)

    def act(self) -> None:  # noqa: D102
        self.page.fill("#size", "8")
        upper, lower = ((104, 171), (130, 174), (155, 170)), ((110, 179), (130, 182), (150, 177))
        for key, points in (("7", upper), ("9", lower)):  # the keys of the lips
            revision = self.rendered()
            self.keys(key)
            self.stroke(*points)
            self.rendered(revision)


def save(source: Path, name: str) -> None:
    """Save a picture for the documentation, no wider than ``WIDTH``, with a palette: a quarter of the bytes."""
    picture = pyvips.Image.new_from_file(str(source), access="sequential")
    if picture.width > WIDTH:
        picture = picture.resize(WIDTH / picture.width)
    picture.pngsave(str(PICTURES / f"{name}.png"), palette=True, Q=100, effort=10)


if __name__ == "__main__":
    main()
