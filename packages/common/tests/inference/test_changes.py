"""Changes that are too large for memory lie in a temporary file, for which the disk must have space."""

import functools
import os

import numpy as np
import pytest
import pyvips
from retouch_common.inference import changes
from retouch_common.inference.changes import ReducedChange, photo_change
from retouch_common.photo.io import Photo


class Brighter:
    """A retoucher that adds 1 to all levels."""

    def stripes(self, photo, strength):
        for top in range(0, photo.height, 50):
            yield photo.read_rows(top, min(top + 50, photo.height)) + 1


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.setattr(changes, "IN_MEMORY_BYTES", 0)
    pyvips.Image.black(120, 160, bands=3).copy(interpretation="srgb").pngsave(str(tmp_path / "a.png"))
    return Photo.open(tmp_path / "a.png")


@pytest.fixture(params=[True, False])
def reserving(request, monkeypatch):
    """With and without the system's call that reserves space."""
    if not request.param:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)


def test_a_change_in_a_temporary_file(photo, reserving):
    change = photo_change(photo, Brighter())
    assert isinstance(change._difference, np.memmap) and (change.read(0, 0, 160, 120)[0] == 1).all()


def test_a_reduced_change_in_a_temporary_file(photo):
    reduced = ReducedChange(photo_change(photo, Brighter()), 8, photo)
    difference, weights = reduced.read(0, 0, 15, 20)
    assert isinstance(reduced._change, np.memmap) and (difference == 1).all() and (weights == 1).all()


def test_a_photo_is_decoded_once_for_the_change_of_the_whole(photo, monkeypatch):
    """In the studio it is decoded by whoever opens it, one photo at a time."""
    photo.load()
    monkeypatch.setattr(Photo, "open", lambda *arguments, **options: pytest.fail("opened again"))
    assert (photo_change(photo, Brighter()).read(0, 0, 120, 160)[0] == 1).all()


@pytest.mark.skipif(os.name == "nt", reason="no numbers of blocks there")
def test_its_space_is_reserved_before_it_is_written(photo, reserving, tmp_path, monkeypatch):
    """Writing into a mapped file for which there is no space ends the process with SIGBUS."""
    monkeypatch.setattr(changes.tempfile, "TemporaryFile", functools.partial(open, tmp_path / "change", "w+b"))
    array = changes._allocate(photo, (1000, 1000, 3), np.dtype(np.int16))
    assert array.shape == (1000, 1000, 3) and not array.any()
    assert 512 * (tmp_path / "change").stat().st_blocks >= array.nbytes


def test_a_full_disk_is_an_error_before_the_network_runs(photo, reserving):
    resource = pytest.importorskip("resource", reason="the limit of a file's size stands in for a small disk")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(OSError, match=r"a.png: does not fit into the temporary folder .*: the disk is full"):
            photo_change(photo, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
