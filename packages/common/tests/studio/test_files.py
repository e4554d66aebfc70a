"""Photos that a tool keeps open."""

import threading
from dataclasses import dataclass

import pytest

pytest.importorskip("starlette")
from retouch_common.studio import views
from retouch_common.studio.files import PhotoCache, UnknownPhotoError


@dataclass(frozen=True)
class Opened:
    id: str
    number: int


def test_the_least_recently_used_photo_is_closed():
    photos = PhotoCache(2)
    first, second = photos.add(Opened("", 1)), photos.add(Opened("", 2))
    assert photos[first.id] == first and first.id != second.id
    third = photos.add(Opened("", 3))
    assert photos[first.id] is first and photos[third.id] is third
    with pytest.raises(UnknownPhotoError, match="keeps 2"):
        photos[second.id]


def test_one_photo_at_a_time_is_decoded(monkeypatch):
    running, most = [], []

    def opened(path):
        running.append(1)
        most.append(len(running))
        threading.Event().wait(0.05)
        running.pop()
        raise ValueError("enough")

    monkeypatch.setattr(views.Photo, "open", opened)

    def show():
        with pytest.raises(ValueError, match="enough"):
            views.PhotoPreview.open(type("File", (), {"path": "x"})())

    threads = [threading.Thread(target=show) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
