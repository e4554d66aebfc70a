"""Applications with the stand-in of :mod:`flat_editor` for a network."""

import sys
from pathlib import Path

import numpy as np
import pytest
from maskgan.studio import session
from maskgan.studio.server import create_tool
from maskgan.studio.session import EditSession
from retouch_common.faces.face import Face
from retouch_common.studio.server import create_app
from retouch_common.studio.tools import ToolContext
from retouch_common.testing.studio import ONE_TIME_TOKEN, ROOT, TOKEN
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parent))  # for the tests beside it
from api_requests import ADDRESS
from edit_page import address, browser, edit_page, edit_page_of_two, files  # noqa: F401
from flat_editor import HEIGHT, MARKS, WIDTH, FlatEditor


@pytest.fixture(autouse=True)
def one_face(monkeypatch):
    """Photographs of WIDTH x HEIGHT show a face, others none."""

    def locate(photo):
        if (photo.width, photo.height) != (WIDTH, HEIGHT):
            return []
        return [Face((55.0, 65.0, 40.0, 50.0), 1.0, MARKS)]

    monkeypatch.setattr(session, "locate_faces", locate)


@pytest.fixture
def two_faces(monkeypatch):
    """Photographs show two faces."""
    unknown = np.full((5, 2), np.nan, np.float32)
    faces = [Face((55.0, 65.0, 40.0, 50.0), 1.0, MARKS), Face((110.0, 20.0, 24.0, 30.0), 1.0, unknown)]
    monkeypatch.setattr(session, "locate_faces", lambda photo: faces)


@pytest.fixture
def editor():
    editor = FlatEditor()
    editor.pace = 0.03
    return editor


@pytest.fixture
def client(tmp_path, editor):
    """A page's requests to a studio; its ``folder`` holds the uploads."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    context = ToolContext(folder=folder)
    tool = create_tool(lambda: EditSession(editor), context)
    app = create_app([tool], context, TOKEN, one_time_token=ONE_TIME_TOKEN)
    client = TestClient(app, base_url=ADDRESS, headers={"Origin": ROOT})
    client.folder = folder
    client.get(f"{ROOT}/", params={"token": TOKEN})
    return client
