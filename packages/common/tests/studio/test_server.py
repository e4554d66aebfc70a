"""The frame around the tools, uploads, and what is refused."""

import asyncio
import gc

import pytest
from retouch_common.testing.studio import ROOT, TOKEN

pytest.importorskip("starlette")
from retouch_common.studio import requests
from retouch_common.studio.files import StoredFile
from retouch_common.studio.retouch.server import retouch_tool
from retouch_common.studio.server import create_app
from retouch_common.studio.tools import ToolContext, create_tools, installed_factories
from starlette.testclient import TestClient


def upload(client, data=b"pixels", name="anna.png"):
    return client.post("/echo/api/photos", params={"name": name}, content=data)


def test_the_first_page_is_the_first_tools_in_the_frame(client):
    page = client.get("/")
    assert page.url.path == "/echo/" and page.headers["content-type"].startswith("text/html")
    assert "<main>the context</main>" in page.text and 'href="echo.css"' in page.text
    assert "<!--" not in page.text and "Echo &lt;1&gt;" in page.text
    accepted = page.text.partition('accept="')[2].partition('"')[0].split(",")
    assert {".jpg", ".avif", ".heic", ".heif", ".jxl", ".cr3", ".dng"} <= set(accepted)
    assert client.get("/echo/main.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/shell/style.css").headers["content-type"].startswith("text/css")
    for path in ("/echo/tool.html", "/shell/shell.html", "/echo/../server.py", "/echo/%2e%2e/uploads", "/other/"):
        assert client.get(path).status_code == 404


def test_several_tools_are_linked(factory, tmp_path):
    context = ToolContext(folder=tmp_path)
    one = factory(context)
    other = type(one)(name="other", title="Other", page=one.page, routes=[], order=-1)
    client = TestClient(create_app(create_tools({"a": lambda d: one, "b": lambda d: other}, context), context, TOKEN))
    client.base_url = ROOT
    page = client.get("/", params={"token": TOKEN}) and client.get("/")
    assert page.url.path == "/other/"  # by its order
    assert '<a href="/other/" aria-current="page">Other</a><a href="/echo/">' in page.text


def test_without_a_tool_there_is_no_studio(tmp_path):
    with pytest.raises(ValueError, match="no tool is installed"):
        create_tools({"none": lambda context: None}, ToolContext(folder=tmp_path))


def test_tools_come_from_entry_points():
    """Of the packages that are installed beside this one."""
    factories = installed_factories()
    assert factories["retouch"] is retouch_tool and all(callable(factory) for factory in factories.values())


def test_the_photo_of_the_command_is_opened_and_never_deleted(factory, tmp_path):
    photo = tmp_path / "anna.png"
    photo.write_bytes(b"pixels")
    context = ToolContext(folder=tmp_path)
    app = create_app([factory(context)], context, TOKEN, start=StoredFile(photo, "anna.png", owned=False))
    client = TestClient(app, base_url=ROOT)
    client.get("/", params={"token": TOKEN})
    page = client.get("/")
    answer = client.post("/echo/api/photos", params={"file": page.url.params["file"]})
    assert answer.json()["name"] == "anna.png" and answer.json()["bytes"] == 6
    del app, client, context
    factory.opened.clear()
    gc.collect()
    assert photo.is_file()


def test_a_photo_can_be_opened_by_another_tool_as_long_as_one_shows_it(client, studio, refused):
    first = upload(client).json()
    assert client.post("/echo/api/photos", params={"file": first["file"]}).json() == first
    studio.factory.opened.clear()
    gc.collect()
    assert not list(studio.folder.iterdir())
    assert "open it again" in refused(client.post("/echo/api/photos", params={"file": first["file"]}), 404)


def test_what_is_no_photo_is_refused_by_its_name_and_not_kept(client, studio, refused):
    assert refused(upload(client, b"no photo", "notes.txt"), 422) == "notes.txt: is not a photo"
    assert refused(upload(client, b""), 422) == "anna.png: is empty (0 bytes)"
    assert not list(studio.folder.iterdir())


def test_names_cannot_leave_the_folder(client, studio):
    assert upload(client, name="../../etc/..\\evil\n.png").json()["name"] == "evil.png"
    assert [file.parent for file in studio.folder.iterdir()] == [studio.folder]


@pytest.mark.parametrize("name, suffix", [("a.NEF", ".nef"), ("a.heic", ".heic"), ("a.jxl", ".jxl"), ("a.exe", "")])
def test_uploads_keep_the_suffix_of_a_photo(client, studio, name, suffix):
    """Raw files are recognised by it."""
    upload(client, name=name)
    assert [file.suffix for file in studio.folder.iterdir()] == [suffix]


def test_uploads_are_limited_before_and_while_they_are_read(client, studio, refused, monkeypatch):
    monkeypatch.setattr(requests, "UPLOAD_BYTES", 5_000_000)
    answer = client.post("/echo/api/photos?name=big.jpg", content=b"x", headers={"Content-Length": "5000001"})
    assert refused(answer, 413) == "big.jpg: is larger than 5 MB, the most that can be opened here"
    sent = []

    def endless():  # chunked: nothing says how much will come
        while len(sent) < 5000:
            sent.append(1)
            yield bytes(50_000)

    assert "5 MB" in refused(client.post("/echo/api/photos?name=big.jpg", content=endless()), 413)
    assert not list(studio.folder.iterdir())


def test_bodies_that_are_no_json_objects_are_refused(client, refused):
    for content, words in ((b"{", "not JSON"), (b"[]", "not a JSON object"), (b"[" * 900, "not JSON")):
        assert words in refused(client.post("/echo/api/data", content=content), 422)
    assert refused(client.post("/echo/api/data", content=b"[" * 1001), 413)
    assert client.post("/echo/api/say", content=b"x" * 500).json()["said"] == "x" * 120 + "…"


def test_a_body_that_does_not_go_on_is_given_up(client, monkeypatch):
    monkeypatch.setattr(requests, "CHUNK_TIMEOUT", 0.2)

    async def ask():
        answers = []

        async def receive():
            if answers or not sent:
                await asyncio.sleep(60)
            return sent.pop()

        async def send(message):
            answers.append(message)

        sent = [{"type": "http.request", "body": b"{", "more_body": True}]
        headers = [(b"host", b"127.0.0.1:8765"), (b"cookie", client.get("/").request.headers["cookie"].encode())]
        scope = {
            "type": "http", "method": "POST", "path": "/echo/api/say", "query_string": b"", "headers": headers,
            "server": ("127.0.0.1", 8765), "http_version": "1.1", "scheme": "http", "root_path": "",
        }  # fmt: skip
        await client.app(scope, receive, send)
        return answers

    assert asyncio.run(asyncio.wait_for(ask(), 20))[0]["status"] == 408
