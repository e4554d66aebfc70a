"""A studio with one small tool, "echo"."""

from types import SimpleNamespace

import pytest
from retouch_common.testing.studio import ONE_TIME_TOKEN, ROOT, TOKEN


def echo_factory(page):
    """A tool that opens photos and says their name and size in bytes, and what it is sent."""
    from retouch_common.studio.requests import json_handler, open_photo, read_body, truncate
    from retouch_common.studio.tools import Tool
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    opened = []

    def factory(context):
        def opener(file):
            if file.path.read_bytes().startswith(b"no photo"):
                raise ValueError(f"{file.path}: is not a photo")
            opened.append(file)
            return file

        async def photos(request):
            file = await open_photo(request, context, opener)
            return JSONResponse({"file": file.id, "name": file.name, "bytes": file.path.stat().st_size})

        async def say(request):
            return JSONResponse({"said": truncate((await read_body(request, 1000)).decode())})

        routes = [
            Route(f"/api/{name}", handler, methods=["POST"])
            for name, handler in (("photos", photos), ("say", say), ("data", json_handler(1000, JSONResponse)))
        ]
        return Tool(name="echo", title="Echo <1>", page=page, routes=routes)

    factory.opened = opened
    return factory


@pytest.fixture
def factory(tmp_path):
    page = tmp_path / "page"
    page.mkdir()
    (page / "tool.html").write_text("<main>the context</main>")
    (page / "main.js").write_text("")
    (page / "echo.css").write_text("")
    return echo_factory(page)


@pytest.fixture
def studio(tmp_path, factory):
    """The application, its folder and its tools' factory."""
    from retouch_common.studio.server import create_app
    from retouch_common.studio.tools import ToolContext

    folder = tmp_path / "uploads"
    folder.mkdir()
    context = ToolContext(folder=folder)
    return SimpleNamespace(
        app=create_app([factory(context)], context, TOKEN, one_time_token=ONE_TIME_TOKEN),
        folder=folder,
        factory=factory,
        context=context,
    )


@pytest.fixture
def client(studio):
    from starlette.testclient import TestClient

    client = TestClient(studio.app, base_url=ROOT, headers={"Origin": ROOT})
    client.get("/", params={"token": TOKEN})
    return client


@pytest.fixture
def refused():
    def check(answer, status):
        assert answer.status_code == status, answer.text
        line = answer.json()["error"]
        assert line and "\n" not in line and "Traceback" not in line
        return line

    return check
