"""The studio with the bundled network in headless Chromium, and the command that replays what was done there."""

import subprocess
import sys

import numpy as np
import pytest
import pyvips
from retouch_common.inference.demo import FACE, astronaut
from retouch_common.photo.io import Photo

pytest.importorskip("starlette")
from retouch_common.studio.retouch.server import retouch_tool
from retouch_common.studio.server import create_app
from retouch_common.studio.tools import ToolContext
from retouch_common.testing.studio import TOKEN, ToolPage, chromium, open_tool, serve

CHEEK = (round(FACE[0] + 0.3 * FACE[2]), round(FACE[1] + 0.6 * FACE[3]))
COMMAND = (sys.executable, "-c", "from abpn.cli import retouch; retouch()")


class RetouchPage(ToolPage):
    name, size = "retouch", (512, 512)


@pytest.mark.slow
def test_the_command_writes_the_bytes_of_the_pages_export(tmp_path):
    """Open the astronaut, bring a blemish back by a click, protect a cheek, export, save the recipe, replay it."""
    photo, uploads, replayed = tmp_path / "astronaut.png", tmp_path / "uploads", tmp_path / "replayed.png"
    pyvips.Image.new_from_array(astronaut()).write_to_file(str(photo))
    uploads.mkdir()
    context = ToolContext(folder=uploads, device="cpu")
    app = create_app([retouch_tool(context)], context, TOKEN)
    with chromium() as browser, serve(app) as address, open_tool(RetouchPage, browser, address, photo) as page:
        page.page.locator("#networks label", has_text="ABPN").click()
        page.keys("g", "o")
        revision = page.rendered()
        blemish = page.page.locator("#marks .blemish").first
        x, y = map(int, blemish.get_attribute("data-at").split(","))
        page.page.locator("#marks .target").first.click(force=True)
        revision = page.rendered(revision)
        assert blemish.get_attribute("aria-checked") == "false"
        page.keys("b")
        page.page.fill("#radius", "6")
        page.stroke(CHEEK, (CHEEK[0] + 8, CHEEK[1]))
        page.rendered(revision)
        steps = page.page.locator("#steps button").all_text_contents()
        assert len(steps) == 3 and steps[1].endswith("place 1 brought back") and steps[2] == "Protected"
        exported, recipe = page.download("#export"), page.download("#save-recipe")
    subprocess.run([*COMMAND, photo, "-o", replayed, "--recipe", recipe, "--device", "cpu"], check=True)
    assert replayed.read_bytes() == exported.read_bytes()
    before, after = astronaut(), Photo.open(exported).read()
    kept = [(y, x), CHEEK[::-1], (CHEEK[1], CHEEK[0] + 8)]
    assert (before != after).any() and all((before[at] == after[at]).all() for at in kept)
    rest = np.ones(before.shape[:2], bool)
    rest[36:196, 140:300] = False  # around the face
    assert (before[rest] == after[rest]).all()
