"""The command: options, what it says when it cannot start, and that it leaves nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest
import uvicorn
from click.testing import CliRunner
from flat_editor import FlatEditor, encoded, portrait_pixels
from maskgan.studio import cli
from maskgan.studio.session import Studio

QUIET = ["--port", "0", "--no-browser"]
# The command without a network: its application answers one request and puts a file into its folder.
SCRIPT = """
import sys
from maskgan.studio import cli
from starlette.responses import PlainTextResponse

def application(photo, weights, parser, device, folder, token, single):
    (folder / "upload.png").write_bytes(b"x")
    return PlainTextResponse(str(folder))

cli._application = application
cli.studio(["--port", "0", "--no-browser"])
"""


def run(*arguments):
    result = CliRunner().invoke(cli.studio, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def printed_address(text):
    return re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32,}", text)[0]


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


def test_a_taken_port_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--port", port, "--no-browser")
    assert result.exit_code == 1
    assert result.output.strip() == (
        f"Error: --port {port}: is taken by another program; choose another, or 0 for one that is free"
    )


def test_the_photo_is_opened_first_and_a_wrong_one_refused(monkeypatch, tmp_path):
    """PHOTO is shown at once, from its own place, and is never deleted."""
    from starlette.testclient import TestClient

    served = []
    monkeypatch.setattr(cli, "_studio", lambda weights, parser, device: Studio(FlatEditor()))
    monkeypatch.setattr(cli, "serve", lambda app, listener: served.append(app))
    photo = tmp_path / "anna.png"
    photo.write_bytes(encoded(portrait_pixels()))
    result = run(photo, *QUIET)
    assert result.exit_code == 0
    address = printed_address(result.output)
    client = TestClient(served[0], base_url=address.partition("/?")[0])
    assert client.get(address).status_code == 200
    assert client.get("/api/about").json()["photo"]["name"] == "anna.png"
    del served[:]
    assert photo.is_file()
    photo.write_bytes(b"no picture")
    result = run(photo, *QUIET)
    assert result.exit_code == 1 and result.output.startswith(f"Error: {photo}: is not a photo")
    assert not served


def test_the_browser_is_opened_unless_it_is_not_wanted(monkeypatch):
    opened, pages, modes = [], [], []

    def open_page(address):
        file = Path(url2pathname(urlsplit(address).path))
        pages.append(file.read_text())
        modes.append(file.stat().st_mode & 0o777)
        opened.append(address)

    monkeypatch.setattr(cli.webbrowser, "open", open_page)
    monkeypatch.setattr(cli, "_studio", lambda *arguments: Studio(FlatEditor()))

    def serve(app, listener):
        deadline = time.monotonic() + 5
        while not opened and time.monotonic() < deadline:
            time.sleep(0.01)

    monkeypatch.setattr(cli, "serve", serve)
    result = run("--port", "0")
    address = printed_address(result.output)
    (given,) = opened
    assert given.startswith("file:") and "token" not in given
    assert modes == [0o600]
    (single,) = re.findall(r"url=(http://127\.0\.0\.1:\d+/\?token=[\w-]{32,})", pages[0])
    assert single.partition("token")[0] == address.partition("token")[0] and single != address
    monkeypatch.setattr(cli, "serve", lambda app, listener: None)
    run(*QUIET)
    assert len(opened) == 1


@pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_it_ends_in_good_order_and_leaves_nothing(number, status):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        address = printed_address(process.stdout.readline())
        folder = Path(urllib.request.urlopen(address, timeout=20).read().decode())
        assert (folder / "upload.png").is_file()
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == status, errors
    assert "Traceback" not in errors and not folder.exists()
    if number == signal.SIGINT:
        assert "has ended" in output


def test_a_connection_that_sends_no_request_is_closed(monkeypatch):
    """Neither at once nor after half a header, nor after a request."""
    from maskgan.studio import connections
    from starlette.responses import PlainTextResponse

    monkeypatch.setattr(connections, "HEADER_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(cli.configuration(PlainTextResponse("hello")))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        address = listener.getsockname()
        whole = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        try:
            for sent in (b"", whole[:20], whole + whole[:20]):
                with socket.create_connection(address, timeout=5) as connection:
                    connection.sendall(sent)
                    received = b""
                    while block := connection.recv(1000):
                        received += block
                assert (b"hello" in received) == (len(sent) > len(whole))
        finally:
            server.should_exit = True
            thread.join()


def test_connections_are_limited():
    from maskgan.studio.connections import MAX_CONNECTIONS

    assert cli.configuration(None).limit_concurrency == MAX_CONNECTIONS


@pytest.mark.slow
def test_with_the_real_network(tmp_path, monkeypatch):
    """Random weights of the smallest preset: what the studio asks of an editor is what the editor offers."""
    import torch
    from maskgan.config import PRESETS
    from maskgan.editor import Editor
    from maskgan.model import MaskGAN
    from maskgan.studio.session import Edit, StoredFile
    from retouch_common.parsing.config import PRESETS as PARSERS
    from retouch_common.parsing.model import ParsingUNet

    torch.manual_seed(0)
    MaskGAN(PRESETS["tiny"].model).save_pretrained(tmp_path / "model")
    ParsingUNet(PARSERS["tiny"].model).save_pretrained(tmp_path / "parser")
    editor = Editor(str(tmp_path / "model"), parser=str(tmp_path / "parser"), device="cpu", precision="fp32")
    studio = Studio(editor)
    path = tmp_path / "anna.png"
    path.write_bytes(encoded(portrait_pixels()))
    opened = studio.open(StoredFile(path, "anna.png", ours=False))
    labels = np.random.default_rng(0).integers(0, 11, (studio.size, studio.size), dtype=np.uint8)
    opened = studio.reread(opened.id, labels)
    other = studio.reread(opened.id, labels[::-1].copy())
    edit = Edit(opened.id, labels[:, ::-1].copy(), {"hair": (other.id, 0.5)})
    for view in ("photo", "network"):
        data, warnings = studio.render(edit, view)
        assert data.startswith(b"\x89PNG") and all(isinstance(line, str) for line in warnings)
        assert studio.export_face(edit, view)[0].startswith(b"\x89PNG")
    target, name = studio.export_photo(edit, tmp_path)
    assert name == "anna.edited.png" and target.stat().st_size
