"""The command: options, what it says when it cannot start, and that it opens the Edit tool."""

import re
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from flat_editor import FlatEditor, encoded, portrait_pixels
from maskgan.studio import cli, server
from maskgan.studio.session import EditSession
from retouch_common.studio import cli as common
from starlette.testclient import TestClient

QUIET = ["--port", "0", "--no-browser"]


def run(*arguments):
    result = CliRunner().invoke(cli.studio, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_help_names_the_options():
    text = run("--help").output
    for option in ("[PHOTO]", "--weights", "--parser", "--port", "--device", "--no-browser"):
        assert option in text


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_extra_is_said(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    result = run(*QUIET)
    assert result.exit_code == 1
    assert result.output.strip() == (
        f"Error: the studio needs {missing}, which is not installed: pip install 'maskgan[studio]'"
    )


def test_it_opens_the_studio_on_the_edit_tool(monkeypatch, tmp_path):
    """PHOTO is shown at once, from its own place, and is never deleted."""
    served = []
    monkeypatch.setattr(
        server, "edit_tool", lambda context, **weights: server.create_tool(lambda: EditSession(FlatEditor()), context)
    )
    monkeypatch.setattr(common, "serve", lambda app, listener: served.append(app))
    photo = tmp_path / "anna.png"
    photo.write_bytes(encoded(portrait_pixels()))
    result = run(photo, *QUIET)
    assert result.exit_code == 0
    address = re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32,}", result.output)[0]
    client = TestClient(served[0], base_url=address.partition("/?")[0])
    assert client.get(address).status_code == 200
    page = client.get("/")
    assert page.url.path == "/edit/" and "Edit" in page.text
    opened = client.post("/edit/api/photos", params={"file": page.url.params["file"]})
    assert opened.json()["name"] == "anna.png"
    del served[:], client
    assert photo.is_file()


@pytest.mark.slow
def test_with_the_real_network(tmp_path, monkeypatch):
    """Random weights of the smallest preset: what the studio asks of an editor is what the editor offers."""
    import torch
    from maskgan.config import PRESETS
    from maskgan.edit_files import EditOptions
    from maskgan.editor import Editor
    from maskgan.model import MaskGAN
    from maskgan.studio.session import Edit
    from retouch_common.parsing.config import PRESETS as PARSERS
    from retouch_common.parsing.model import ParsingUNet
    from retouch_common.studio.files import StoredFile

    torch.manual_seed(0)
    MaskGAN(PRESETS["tiny"].model).save_pretrained(tmp_path / "model")
    ParsingUNet(PARSERS["tiny"].model).save_pretrained(tmp_path / "parser")
    editor = Editor(str(tmp_path / "model"), parser=str(tmp_path / "parser"), device="cpu", precision="fp32")
    studio = EditSession(editor)
    path = tmp_path / "anna.png"
    path.write_bytes(encoded(portrait_pixels()))
    opened = studio.open(StoredFile(path, "anna.png", owned=False))
    labels = np.random.default_rng(0).integers(0, 11, (studio.size, studio.size), dtype=np.uint8)
    opened = studio.reencode(opened.id, labels)
    other = studio.reencode(opened.id, labels[::-1].copy())
    edit = Edit(opened.id, labels[:, ::-1].copy(), {"hair": (other.id, 0.5)})
    for view in ("photo", "network"):
        data, warnings = studio.render(edit, view)
        assert data.startswith(b"\x89PNG") and all(isinstance(line, str) for line in warnings)
        assert studio.export_face(edit, view)[0].startswith(b"\x89PNG")
    target, name = studio.export_photo(edit, tmp_path, None, EditOptions())
    assert name == "anna.edited.png" and target.stat().st_size
