"""The Retouch tool with the stand-in of :mod:`drawn_network`."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the tests beside it
from drawn_network import FACE, WIDTH, DrawnNetwork, OtherNetwork
from retouch_common.testing.studio import ROOT, TOKEN


@pytest.fixture(autouse=True)
def one_face(monkeypatch):
    """Photographs as wide as WIDTH, or a multiple of it, show a face, others none."""
    from retouch_common.studio.retouch import session

    def locate(photo, overview):
        scale = photo.width / WIDTH
        if scale % 1:
            return []
        return [replace(FACE, box=tuple(scale * value for value in FACE.box))]

    monkeypatch.setattr(session, "locate_faces", locate)
    DrawnNetwork.runs = 0


@pytest.fixture
def retouching():
    pytest.importorskip("starlette")
    from retouch_common.studio.retouch.session import RetouchSession

    return RetouchSession({"drawn": DrawnNetwork, "other": OtherNetwork}, "cpu")


@pytest.fixture
def context(tmp_path):
    from retouch_common.studio.tools import ToolContext

    folder = tmp_path / "uploads"
    folder.mkdir()
    return ToolContext(folder=folder)


@pytest.fixture
def app(retouching, context):
    from retouch_common.studio.retouch.server import create_tool
    from retouch_common.studio.server import create_app

    return create_app([create_tool(retouching, context)], context, TOKEN)


@pytest.fixture
def client(app):
    from starlette.testclient import TestClient

    client = TestClient(app, base_url=f"{ROOT}/retouch", headers={"Origin": ROOT})
    client.get(f"{ROOT}/", params={"token": TOKEN})
    return client
