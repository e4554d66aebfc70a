"""Who is answered: the studio's own page, on this computer, opened with the address that the terminal shows."""

import pytest
from retouch_common.testing.studio import ONE_TIME_TOKEN, ROOT, TOKEN

pytest.importorskip("starlette")
from retouch_common.studio.guard import HEADERS
from starlette.testclient import TestClient


def test_every_answer_is_protected(client):
    for path in ("/", "/echo/", "/echo/main.js", "/shell/api.js", "/echo/api/say", "/nothing"):
        answer = client.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "default-src 'self'" in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "192.168.1.5:8765", "127.0.0.1.evil.example", ""]
)
def test_other_hosts_are_refused(client, host):
    for method, path in (("GET", "/"), ("GET", "/echo/"), ("POST", "/echo/api/photos")):
        answer = client.request(method, path, headers={"Host": host})
        assert answer.status_code == 403 and "this computer" in answer.text


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:8765", "LOCALHOST"])
def test_this_computers_names_are_taken(client, host):
    assert client.get("/echo/", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8765"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_pages_requests_are_refused(client, headers, refused):
    for path in ("/echo/api/photos", "/echo/api/say", "/nothing"):
        assert "other pages" in refused(client.post(path, content=b"x", headers=headers), 403)


def test_the_terminals_address_is_exchanged_for_a_cookie(client):
    stranger = TestClient(client.app, base_url=ROOT)
    answer = stranger.get("/", params={"token": TOKEN})
    assert answer.status_code == 200 and 'content="0; url=/"' in answer.text
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("retouch-studio-8765=") and "httponly" in cookie and "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert stranger.get("/").status_code == stranger.get("/echo/").status_code == 200


def test_the_browsers_address_is_exchanged_once(client):
    """By way of a file, which browsers count as another page."""
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    for status in (200, 403):
        stranger = TestClient(client.app, base_url=ROOT)
        assert stranger.get("/", params={"token": ONE_TIME_TOKEN}, headers=headers).status_code == status
        assert stranger.get("/echo/").status_code == status
    assert ONE_TIME_TOKEN not in str(client.cookies) and client.get("/echo/", headers=headers).status_code == 403


@pytest.mark.parametrize("token", ["", "wrong", "ä"])
def test_without_that_address_nothing_is_answered(client, token, refused):
    stranger = TestClient(client.app, base_url=ROOT, headers={"Cookie": f"retouch-studio-8765={token}".encode()})
    page = stranger.get("/", params={"token": token})
    assert (
        page.status_code == 403
        and "open the full address that the terminal shows" in page.text
        and "\n" not in page.text
    )
    for path in ("/echo/", "/echo/main.js", "/shell/api.js", f"/echo/?token={TOKEN}", "/nothing"):
        assert "the terminal" in refused(stranger.get(path), 403)
    assert "the terminal" in refused(stranger.post("/echo/api/say", content=b"x"), 403)
