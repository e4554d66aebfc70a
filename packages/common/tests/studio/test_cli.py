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

import pytest
import pyvips
from click.testing import CliRunner
from retouch_common.studio import cli, tools

uvicorn = pytest.importorskip("uvicorn")

QUIET = ["--port", "0", "--no-browser"]
# The command without tools, whose packages take seconds to import: its application answers one request and puts a file
# into its folder.
SCRIPT = """
import atexit
atexit.register(print, "interpreter ended")
import sys
from retouch_common.studio import cli, tools
from starlette.responses import PlainTextResponse

def application(photo, factories, first, device, folder, token, one_time_token):
    (folder / "upload.png").write_bytes(b"x")
    return PlainTextResponse(str(folder))

cli._create_app = application
tools.installed_factories = dict
cli.studio(["--port", "0", "--no-browser"])
"""
# Likewise, with a thread that loads networks all the time.
LOADING_SCRIPT = SCRIPT.replace(
    "cli._create_app = application",
    "import threading, time\n"
    "cli._create_app = application\n"
    "threading.Thread(target=time.sleep, args=(60,), name=cli.PREPARATION, daemon=True).start()",
)
# Likewise; it answers with its folder, and then to the path /slow with nothing.
SLOW_SCRIPT = """
import time
from retouch_common.studio import cli, tools
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

def application(photo, factories, first, device, folder, token, one_time_token):
    (folder / "upload.png").write_bytes(b"x")

    async def slow(request):
        await run_in_threadpool(time.sleep, 60)
        return JSONResponse({})

    def lines():
        while True:
            time.sleep(0.01)
            yield b"{}"

    routes = [Route("/slow", slow), Route("/lines", lambda request: StreamingResponse(lines()))]
    return Starlette(routes=[Route("/", lambda request: PlainTextResponse(str(folder))), *routes])

cli._create_app = application
tools.installed_factories = dict
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
    for option in ("[PHOTO]", "--tool", "--port", "--device", "--no-browser"):
        assert option in text


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_extra_is_said(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    result = run(*QUIET)
    assert result.exit_code == 1
    assert result.output.strip() == (
        f"Error: the studio needs {missing}, which is not installed: pip install 'retouch-common[studio]'"
    )


def test_a_taken_port_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--port", port, "--no-browser")
    assert result.exit_code == 1
    assert result.output.strip() == (
        f"Error: --port {port}: is taken by another program; choose another, or 0 for one that is free"
    )


def test_the_photo_is_opened_first_and_a_wrong_one_refused(monkeypatch, tmp_path, factory):
    """PHOTO is shown at once, from its own place, and is never deleted."""
    from starlette.testclient import TestClient

    served = []
    monkeypatch.setattr(tools, "installed_factories", lambda: {"echo": factory})
    monkeypatch.setattr(cli, "serve", lambda app, listener: served.append(app))
    photo = tmp_path / "anna.png"
    pyvips.Image.black(32, 32, bands=3).pngsave(str(photo))
    result = run(photo, *QUIET)
    assert result.exit_code == 0
    address = printed_address(result.output)
    client = TestClient(served[0], base_url=address.partition("/?")[0])
    assert client.get(address).status_code == 200
    assert client.get("/").url.params["file"]
    del served[:]
    assert photo.is_file()
    photo.write_bytes(b"no picture")
    result = run(photo, *QUIET)
    assert result.exit_code == 1 and result.output.startswith(f"Error: {photo}: is not a photo")
    assert not served


def test_the_browser_is_opened_unless_it_is_not_wanted(monkeypatch, factory):
    opened, pages, modes = [], [], []

    def open_page(address):
        file = Path(url2pathname(urlsplit(address).path))
        pages.append(file.read_text())
        modes.append(file.stat().st_mode & 0o777)
        opened.append(address)

    monkeypatch.setattr(cli.webbrowser, "open", open_page)
    monkeypatch.setattr(tools, "installed_factories", lambda: {"echo": factory})

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
    (one_time_url,) = re.findall(r"url=(http://127\.0\.0\.1:\d+/\?token=[\w-]{32,})", pages[0])
    assert one_time_url.partition("token")[0] == address.partition("token")[0] and one_time_url != address
    monkeypatch.setattr(cli, "serve", lambda app, listener: None)
    run(*QUIET)
    assert len(opened) == 1


@pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
@pytest.mark.parametrize("script", [SCRIPT, LOADING_SCRIPT], ids=["idle", "loading"])
def test_it_ends_in_good_order_and_leaves_nothing(script, number, status):
    """Also while networks are loaded: the interpreter would abort in their thread."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
    assert ("interpreter ended" in output) == (script == SCRIPT)
    if number == signal.SIGINT:
        assert "has ended" in output


@pytest.mark.skipif(os.name == "nt", reason="signals as on POSIX")
@pytest.mark.parametrize(
    "path, number, status", [("slow", signal.SIGINT, 0), ("lines", signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_it_ends_promptly_and_without_traces_while_a_request_runs(path, number, status):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        url = urlsplit(printed_address(process.stdout.readline()))
        folder = Path(urllib.request.urlopen(f"http://{url.netloc}/", timeout=20).read().decode())
        with socket.create_connection((url.hostname, url.port), timeout=20) as connection:
            connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(0.5)
            start = time.monotonic()
            process.send_signal(number)
            output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == status and errors == ""
    assert output == ("The studio has ended.\n" if status == 0 else "")
    assert time.monotonic() - start < cli.SHUTDOWN_TIMEOUT + 4 and not folder.exists()


def test_a_connection_that_sends_no_request_is_closed(monkeypatch):
    """Neither at once nor after half a header, nor after a request."""
    from retouch_common.studio import connections
    from starlette.responses import PlainTextResponse

    monkeypatch.setattr(connections, "HEADER_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(cli.server_config(PlainTextResponse("hello")))
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
    from retouch_common.studio.connections import MAX_CONNECTIONS

    assert cli.server_config(None).limit_concurrency == MAX_CONNECTIONS


def test_an_unknown_tool_is_refused_by_name(monkeypatch, factory):
    """Also one without the packages that it needs, as Retouch has without a network."""
    monkeypatch.setattr(tools, "installed_factories", lambda: {"echo": factory, "retouch": lambda context: None})
    for name in ("paint", "retouch"):
        result = run(*QUIET, "--tool", name)
        assert result.exit_code == 1 and f"--tool: {name!r} is not installed; choose from echo" in result.output
