import sys

import numpy as np
import pytest
import pyvips
from PIL import Image
from retouch_common.photo.io import Photo

tifffile = pytest.importorskip("tifffile")
PREVIEW = np.full((40, 50, 3), 90, np.uint8)


@pytest.fixture(autouse=True)
def without_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)


def preview_tiff(path, **options):
    with tifffile.TiffWriter(path) as writer:
        writer.write(PREVIEW, photometric="rgb", metadata=None, **options)
    return path


def with_sensor(path):
    with tifffile.TiffWriter(path) as writer:
        writer.write(PREVIEW, photometric="rgb", metadata=None, subifds=1)
        writer.write(np.zeros((80, 100), np.uint16), photometric="cfa", metadata=None)
    return path


@pytest.mark.parametrize("name", ["a.dng", "a.nef", "a.arw", "a.pef", "a.tif"])
def test_raw_file_is_named_and_its_preview_not_retouched(tmp_path, name):
    path = with_sensor(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: is a camera raw file .*needs an extra: .*\[raw\]"):
        Photo.open(path)


def test_dng_is_recognised_under_any_name(tmp_path):
    path = preview_tiff(tmp_path / "a.tif", extratags=[(50706, 1, 4, (1, 4, 0, 0), False)])
    with pytest.raises(ValueError, match=r"a.tif: is a camera raw file \(DNG\)"):
        Photo.open(path)


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.cr2", b"II*\0\x10\0\0\0CR\2\0", "CR2"),
        ("a.raf", b"FUJIFILMCCD-RAW 0201", "RAF"),
        ("a.orf", b"IIRO\x08\0\0\0", "ORF"),
        ("a.rw2", b"IIU\0\x18\0\0\0", "RW2"),
        ("a.cr3", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
        ("a.jpg", b"FUJIFILMCCD-RAW 0201", "of a camera's maker"),
    ],
)
def test_raw_formats_without_a_preview_page(tmp_path, name, head, kind):
    (tmp_path / name).write_bytes(head + b"\0" * 100)
    with pytest.raises(ValueError, match=rf"{name}: is a camera raw file \({kind}\)"):
        Photo.open(tmp_path / name)


def test_tiff_with_smaller_versions_is_a_photo(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PREVIEW, photometric="rgb", metadata=None, subifds=1)
        writer.write(PREVIEW[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(Photo.open(tmp_path / "a.tif").read(), PREVIEW)


def test_lab_and_zstandard_are_not_called_damaged(tmp_path):
    tifffile.imwrite(tmp_path / "lab.tif", PREVIEW, photometric="cielab")
    with pytest.raises(ValueError, match=r"lab.tif: its colours are Lab; only grey, RGB and CMYK are supported"):
        Photo.open(tmp_path / "lab.tif")
    Image.fromarray(PREVIEW).save(tmp_path / "z.tif")
    with tifffile.TiffFile(tmp_path / "z.tif") as tiff:
        at = tiff.pages[0].tags["Compression"].valueoffset
    data = bytearray((tmp_path / "z.tif").read_bytes())
    data[at : at + 2] = (50000).to_bytes(2, "little")
    (tmp_path / "z.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"z.tif: its compression, Zstandard, is not supported; save it with LZW"):
        Photo.open(tmp_path / "z.tif")


def test_uncompressed_ycbcr_is_not_taken_for_rgb(tmp_path):
    """libvips would read it as RGB, without a warning."""
    tifffile.imwrite(tmp_path / "a.tif", PREVIEW, photometric="ycbcr", subsampling=(1, 1))
    with pytest.raises(ValueError, match=r"a.tif: its colours are YCbCr without JPEG compression, which is not supp"):
        Photo.open(tmp_path / "a.tif")
    pyvips.Image.new_from_array(PREVIEW).copy(interpretation="srgb").tiffsave(
        str(tmp_path / "b.tif"), compression="jpeg"
    )
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        assert tiff.pages[0].photometric == 6
    assert np.abs(Photo.open(tmp_path / "b.tif").read().astype(int) - PREVIEW).mean() < 20
