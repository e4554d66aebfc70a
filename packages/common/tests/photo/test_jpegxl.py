"""JPEG XL files, which are decoded in a limited process."""

import base64
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from retouch_common.inference.batch import plan_jobs
from retouch_common.photo import jpegxl
from retouch_common.photo.damage import DamageError
from retouch_common.photo.io import Photo
from retouch_common.photo.jpegxl_header import read_header

from ..conftest import smooth_pixels, write_photo

# Written by libjxl through imagecodecs: 16x16 pixels of RGB with 10 bits, and two frames.
TEN_BITS = base64.b85decode("{|ZA;K+z%y1OWhu081E)6#!g#7h{aacz1yi02-?+01|2dxEVnFFbsr_;A#K")
ANIMATED = base64.b85decode("{|Z9{O#mP!2m}ED8~{rgixq+c00;yH05||k7>gBvRr-Gb2qh{w1p")

needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("pillow_jxl") is None, reason="needs pillow-jxl-plugin: retouch-common[jxl]"
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.jxl"


@pytest.fixture
def write(path):
    """Write a lossless file of smooth pixels; gives them."""
    pytest.importorskip("pillow_jxl")

    def write(bands=3, dtype=np.uint8, size=(60, 80), **options):
        levels = smooth_pixels(*size, bands, dtype)
        Image.fromarray(levels[..., 0] if bands == 1 else levels).save(path, lossless=True, **options)
        return levels

    return write


@needs_plugin
@pytest.mark.parametrize(
    ("bands", "dtype"), [(1, np.uint8), (2, np.uint8), (3, np.uint8), (4, np.uint8), (1, np.uint16)]
)
def test_pixels_are_kept(write, path, tmp_path, bands, dtype):
    levels = write(bands, dtype)
    photo = Photo.open(path)
    assert (photo.width, photo.height, photo.dtype) == (80, 60, dtype)
    assert photo.kind == ("grey" if bands < 3 else "rgb") and photo.has_opacity == (bands in (2, 4))
    patch = np.zeros((8, 8, 3), dtype)
    write_photo(photo, tmp_path / "out.png", [(10, 20, patch)])
    levels[20:28, 10:18, : 1 if bands < 3 else 3] = 0
    with Image.open(tmp_path / "out.png") as image:
        found = np.asarray(image).reshape(levels.shape).astype(int)
    np.testing.assert_allclose(found[20:28, 10:18], levels[20:28, 10:18], atol=32)  # black, through the grey's profile
    found[20:28, 10:18] = levels[20:28, 10:18]
    np.testing.assert_array_equal(found, levels)


@needs_plugin
def test_exif_xmp_and_profile_are_kept(write, path, tmp_path, caplog):
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6  # the pixels of a JPEG XL file are upright, whatever its EXIF says
    rdf = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + rdf + b'<rdf:Description xmp:Rating="4"/></rdf:RDF></x:xmpmeta>'
    write(exif=exif.tobytes(), xmp=xmp)
    photo = Photo.open(path)
    assert (photo.width, photo.height) == (80, 60)
    write_photo(photo, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.getexif()[271] == "Maker" and image.getexif().get(274, 1) == 1
        assert "icc_profile" in image.info and b'Rating="4"' in image.info["xmp"]
    assert "not carried over" not in caplog.text
    write(exif=exif.tobytes(), compress_metadata=True)
    write_photo(Photo.open(path), tmp_path / "compressed.png")
    assert "not carried over from a.jxl: compressed EXIF" in caplog.text


@needs_plugin
@pytest.mark.filterwarnings("ignore:Using JPEG reconstruction")
def test_a_recompressed_jpeg_is_read_as_that_jpeg(path, tmp_path):
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        importlib.import_module("pillow_jxl")
        image.save(path)
    photo = Photo.open(path)
    assert (photo.width, photo.height) == (60, 80)
    np.testing.assert_array_equal(photo.read(), Photo.open(tmp_path / "a.jpg").read())
    write_photo(photo, tmp_path / "out.tif")
    with Image.open(tmp_path / "out.tif") as image:
        assert image.getexif()[271] == "Maker" and image.size == (60, 80)


@needs_plugin
def test_a_recompressed_jpeg_of_another_size_is_refused(path):
    """The plugin's encoder writes such files where it is to be lossy."""
    pillow_jxl = importlib.import_module("pillow_jxl")
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(path.with_suffix(".jpg"))
    path.write_bytes(pillow_jxl.Encoder("RGB")(path.with_suffix(".jpg").read_bytes(), 80, 60, jpeg_encode=True))
    with pytest.raises(ValueError, match=r"a.jxl: holds a JPEG photo of another size; convert it"):
        Photo.open(path)


@needs_plugin
def test_depth_that_the_decoder_does_not_give_and_animations_are_refused(path):
    path.write_bytes(TEN_BITS)
    with pytest.raises(ValueError, match=r"a.jxl: has 10 bits per channel, of which the decoder gives 8; convert it"):
        Photo.open(path)
    path.write_bytes(ANIMATED)
    with pytest.raises(ValueError, match=r"a.jxl: is animated, which is not supported for JPEG XL"):
        Photo.open(path)


@needs_plugin
def test_a_damaged_file_is_refused(write, path):
    write()
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], data[:3], b"\xff\x0a" + bytes(40), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"a.jxl: (cannot be read, it is damaged or cut off|is 8x8 pixels)"
        ) as error:
            Photo.open(path)
        assert "\n" not in str(error.value)


@needs_plugin
def test_a_file_with_too_many_pixels_is_not_decoded(write, path, monkeypatch):
    write()
    monkeypatch.setattr(jpegxl, "_run", lambda *arguments: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match=r"a.jxl: has 80x60 pixels, more than the 0.004 million allowed for JPEG XL"):
        Photo.open(path, max_pixels=12_000)


@needs_plugin
@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [("MEMORY", 100_000_000, r"or needs more than \d+ MB of memory"), ("SECONDS", 1, "takes more than 1 seconds")],
)
def test_memory_and_time_are_limited(path, monkeypatch, limit, value, message):
    importlib.import_module("pillow_jxl")
    Image.new("RGBA", (4000, 3000)).save(path, lossless=True, effort=1)
    monkeypatch.setattr(jpegxl, limit, value)
    if limit == "MEMORY":
        monkeypatch.setattr(jpegxl, "MEMORY_PER_PIXEL", 0)
    if limit == "SECONDS":
        monkeypatch.setattr(jpegxl, "SECONDS_PER_PIXEL", 0)
        script = path.with_suffix(".py")
        script.write_text(
            Path(jpegxl.jpegxl_worker.__file__).read_text().replace("    try:", "    while True: pass\n    try:")
        )
        monkeypatch.setattr(jpegxl.jpegxl_worker, "__file__", str(script))
    with pytest.raises(ValueError, match=f"a.jxl: .*{message}"):
        Photo.open(path)


@needs_plugin
def test_stricter_limits_of_the_calling_process_stay(write, path):
    """Only the superuser may raise them, in which case this shows nothing."""
    write()
    code = "import resource, sys\nfrom retouch_common.photo.io import Photo\n"
    code += "resource.setrlimit(resource.RLIMIT_CPU, (9, 9))\nprint(Photo.open(sys.argv[1]).width)"
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert result.stdout == "80\n", result.stderr


@needs_plugin
def test_the_output_in_a_folder_is_a_tiff(write, path, tmp_path):
    write()
    (job,) = plan_jobs([path], tmp_path / "out")
    assert job.target == tmp_path / "out" / "a.tif"


def test_missing_extra_is_named(path, monkeypatch):
    monkeypatch.setattr(jpegxl.importlib.util, "find_spec", lambda name: None)
    path.write_bytes(TEN_BITS)
    with pytest.raises(ValueError, match=r"a.jxl: is a JPEG XL photo, which needs an extra: .*common\[jxl\]'; or conv"):
        Photo.open(path)


def test_systems_that_do_not_limit_memory_refuse_it(path, monkeypatch):
    monkeypatch.setattr(jpegxl.sys, "platform", "darwin")
    path.write_bytes(TEN_BITS)
    with pytest.raises(ValueError, match=r"a.jxl: is a JPEG XL photo, which can be read safely on Linux only"):
        Photo.open(path)


def test_the_header_says_size_depth_and_what_is_not_supported(path):
    path.write_bytes(TEN_BITS)
    header = read_header(path)
    assert (header.width, header.height, header.bits, header.unsupported) == (16, 16, 10, None)
    path.write_bytes(ANIMATED)
    assert read_header(path).unsupported == "is animated"
    # 30-bit sides, neither small nor of a ratio, and all defaults
    bits = f"{1:01b}{(1 << 30) - 1:030b}{3:02b}{0:03b}{(1 << 30) - 1:030b}{3:02b}{0:01b}"
    path.write_bytes(b"\xff\x0a" + int(bits, 2).to_bytes(9, "little"))
    assert (read_header(path).width, read_header(path).height) == (1 << 30, 1 << 30)
    path.write_bytes(b"\xff\x0a\x08")
    with pytest.raises(DamageError, match="its header is cut off"):
        read_header(path)


@needs_plugin
@pytest.mark.parametrize("size", [(16, 16), (64, 96), (300, 400), (100, 160), (61, 83), (9000, 17)])
@pytest.mark.parametrize("bands", [3, 4])
def test_the_header_agrees_with_the_decoder(write, path, size, bands):
    write(bands, size=size, effort=1)
    header = read_header(path)
    assert (header.height, header.width, header.bits, header.unsupported) == (*size, 8, None)
