import errno
import gc
import io
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image
from retouch_common.photo import sink, writing
from retouch_common.photo.io import Photo
from retouch_common.photo.reduction import Reduction

from ..conftest import smooth_pixels, write_photo

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Make="Maker"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def srgb_profile():
    image = pyvips.Image.black(8, 8, bands=3).copy(interpretation="srgb").icc_transform("p3")
    return image.get("icc-profile-data")


def full_metadata(orientation):
    return {
        "icc-profile-data": (pyvips.GValue.blob_type, srgb_profile()),
        "xmp-data": (pyvips.GValue.blob_type, XMP),
        "exif-ifd0-Make": (pyvips.GValue.gstr_type, "Maker (Maker, ASCII, 6 components, 6 bytes)"),
        "exif-ifd2-ISOSpeedRatings": (pyvips.GValue.gstr_type, "400 (400, Short, 1 components, 2 bytes)"),
        "orientation": (pyvips.GValue.gint_type, orientation),
    }


def stored(path):
    """The pixels as a file stores them, upright, decoded by libvips alone."""
    image = pyvips.Image.new_from_file(str(path)).autorot()
    return image.numpy().reshape(image.height, image.width, image.bands)


LOSSLESS = [
    ("a.png", "rgb", np.uint8, False),
    ("a.png", "rgb", np.uint16, True),
    ("a.png", "grey", np.uint8, False),
    ("a.png", "grey", np.uint16, True),
    ("a.tif", "rgb", np.uint16, False),
    ("a.tif", "rgb", np.uint8, True),
    ("a.tif", "cmyk", np.uint8, False),
    ("a.tif", "cmyk", np.uint16, True),
    ("a.webp", "rgb", np.uint8, True),
]


@pytest.mark.parametrize(("name", "kind", "dtype", "alpha"), LOSSLESS)
def test_patch_changes_its_pixels_only(make_photo, tmp_path, name, kind, dtype, alpha):
    path, pixels = make_photo(name, kind=kind, dtype=dtype, alpha=alpha)
    photo = Photo.open(path)
    assert (photo.height, photo.width, photo.kind) == (*pixels.shape[:2], kind)
    assert photo.dtype == dtype
    patch = photo.read(10, 20, 30, 25)
    changed = patch[5:15, 8:20].astype(np.int64) - np.iinfo(dtype).max // 10
    patch[5:15, 8:20] = changed.clip(0)
    out = tmp_path / f"out{path.suffix}"
    write_photo(photo, out, [(10, 20, patch)])

    after = stored(out)
    assert after.dtype == dtype and after.shape == pixels.shape
    inside = np.zeros(pixels.shape[:2], bool)
    inside[25:35, 18:30] = True
    np.testing.assert_array_equal(after[~inside], stored(path)[~inside])
    colours = {"grey": 1, "rgb": 3, "cmyk": 4}[kind]
    np.testing.assert_array_equal(after[..., colours:], pixels[..., colours:])
    got = Photo.open(out).read(10, 20, 30, 25).astype(np.int64)
    tolerance = {"grey": 0, "rgb": 0, "cmyk": 0.06 * np.iinfo(dtype).max}[kind]
    assert np.abs(got - patch)[5:15, 8:20].mean() <= tolerance
    assert np.abs(got - photo.read(10, 20, 30, 25))[5:15, 8:20].mean() > 0.05 * np.iinfo(dtype).max


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("orientation", [1, 2, 3, 6])
def test_metadata_survives_and_pixels_are_upright(make_photo, tmp_path, suffix, orientation):
    path, pixels = make_photo(f"a{suffix}", metadata=full_metadata(orientation))
    photo = Photo.open(path)
    upright = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 6: np.rot90(pixels, -1)}[orientation]
    tolerance = {".jpg": 3, ".avif": 6}.get(suffix, 0)
    assert np.abs(stored(path).astype(int) - upright).mean() <= tolerance
    out = tmp_path / f"out{suffix}"
    write_photo(photo, out)
    image = pyvips.Image.new_from_file(str(out))
    assert (image.width, image.height) == (photo.width, photo.height)
    assert image.get("icc-profile-data") == srgb_profile()
    xmp = bytes(image.get("xmp-data"))
    assert b'tiff:Orientation="1"' in xmp and b'tiff:Make="Maker"' in xmp
    assert not image.get_typeof("orientation") or image.get("orientation") == 1
    if suffix != ".tif":
        assert image.get("exif-ifd0-Make").startswith("Maker")
        assert image.get("exif-ifd2-ISOSpeedRatings").startswith("400")
    assert np.abs(stored(out).astype(int) - upright).mean() <= tolerance


def test_jpeg_is_written_without_chroma_subsampling_at_quality_95(make_photo, tmp_path):
    path, _ = make_photo("a.png")
    write_photo(Photo.open(path), tmp_path / "out.jpg")
    image = pyvips.Image.new_from_file(str(tmp_path / "out.jpg"))
    assert image.get("jpeg-chroma-subsample") == "4:4:4"
    written = (tmp_path / "out.jpg").read_bytes()
    at = written.index(b"\xff\xdb") + 5
    assert list(written[at : at + 3]) == [2, 1, 1]  # the standard luminance table scaled to quality 95


def test_preview_of_the_unretouched_photo_is_dropped(make_photo, tmp_path):
    preview = pyvips.Image.black(16, 12, bands=3).copy(interpretation="srgb").jpegsave_buffer()
    metadata = {**full_metadata(1), "jpeg-thumbnail-data": (pyvips.GValue.blob_type, preview)}
    path, _ = make_photo("a.jpg", metadata=metadata)
    assert pyvips.Image.new_from_file(str(path)).get_typeof("jpeg-thumbnail-data")
    write_photo(Photo.open(path), tmp_path / "out.jpg")
    assert not pyvips.Image.new_from_file(str(tmp_path / "out.jpg")).get_typeof("jpeg-thumbnail-data")


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_avif_stays_deep(make_photo, tmp_path, bits):
    path, _ = make_photo("a.avif", dtype=np.uint16, bitdepth=bits)
    photo = Photo.open(path)
    assert photo.dtype == np.uint16
    write_photo(photo, tmp_path / "out.avif")
    assert pyvips.Image.new_from_file(str(tmp_path / "out.avif")).get("bits-per-sample") == bits


def test_cmyk_jpeg_goes_through_its_profile(make_photo, tmp_path):
    path, _ = make_photo("a.jpg", kind="cmyk")
    photo = Photo.open(path)
    expected = pyvips.Image.new_from_file(str(path)).icc_transform("srgb", input_profile="cmyk", intent="relative")
    assert np.abs(photo.read().astype(int) - expected.numpy()).max() <= 1
    write_photo(photo, tmp_path / "out.jpg")
    assert np.abs(stored(tmp_path / "out.jpg").astype(int) - stored(path)).mean() < 2
    assert photo.thumbnail(40).shape == (29, 40, 3)


@pytest.mark.parametrize("orientation", [1, 6])
def test_rows_agree_with_crops_also_when_asked_twice_with_halo(make_photo, orientation):
    metadata = {"orientation": (pyvips.GValue.gint_type, orientation)}
    path, _ = make_photo("a.tif", size=(300, 70), dtype=np.uint16, metadata=metadata)
    photo = Photo.open(path)
    whole = photo.read()
    for _ in range(2):
        for y in range(0, photo.height, 32):
            first, last = max(0, y - 8), min(photo.height, y + 40)
            np.testing.assert_array_equal(photo.read_rows(first, last), whole[first:last])
    with pytest.raises(ValueError, match="rows 10 to 10"):
        photo.read_rows(10, 10)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("orientation", [1, 2, 6])
def test_a_loaded_photo_is_not_decoded_again(make_photo, suffix, orientation):
    path, _ = make_photo(f"a{suffix}", metadata=full_metadata(orientation))
    other, photo = Photo.open(path), Photo.open(path)
    wanted = other.read_rows(0, other.height), other.thumbnail(50), other.read(3, 5, 20, 30)
    photo.load()
    path.unlink()
    found = photo.read_rows(0, photo.height), photo.thumbnail(50), photo.read(3, 5, 20, 30)
    for one, two in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_rows_may_be_written_to(make_photo):
    photo = Photo.open(make_photo("a.png")[0])
    photo.read_rows(0, 20)[:] = 0
    assert photo.read_rows(0, 20).max() > 0


def test_thumbnail_is_upright_and_small(make_photo):
    metadata = {"orientation": (pyvips.GValue.gint_type, 6)}
    path, pixels = make_photo("a.png", size=(200, 400), dtype=np.uint16, metadata=metadata)
    thumbnail = Photo.open(path).thumbnail(100)
    assert thumbnail.shape == (100, 50, 3) and thumbnail.dtype == np.uint8
    small = np.rot90(pixels, -1).reshape(100, 4, 50, 4, 3).mean(axis=(1, 3)) / 257
    assert np.abs(thumbnail - small).mean() < 4
    assert Photo.open(path).thumbnail(1000).shape == (400, 200, 3)


def test_overlapping_patches_lie_on_top_of_one_another(make_photo, tmp_path):
    path, _ = make_photo("a.png", size=(600, 40))
    photo = Photo.open(path)
    low, high = np.full((400, 30, 3), 1, np.uint8), np.full((300, 20, 3), 250, np.uint8)
    write_photo(photo, tmp_path / "out.png", [(0, 10, low), (5, 200, high)])
    after = stored(tmp_path / "out.png")
    assert (after[10:200, :30] == 1).all() and (after[200:500, 5:25] == 250).all()
    assert (after[200:410, :5] == 1).all()


def test_photo_may_be_written_over_itself(make_photo):
    path, pixels = make_photo("a.png", size=(700, 300))
    photo = Photo.open(path)
    write_photo(photo, path, [(0, 0, np.zeros((1, 1, 3), np.uint8))])
    after = Photo.open(path).read()
    assert after[0, 0].max() == 0 and (after[1:] == pixels[1:]).all()


def halves(photo):
    yield photo.read_rows(0, 20)
    raise RuntimeError("the network failed")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_is_about_as_small_as_libpngs(tmp_path, dtype):
    """Without filters of its rows a photograph is half as large again."""
    levels = smooth_pixels(300, 400, 3, dtype)
    image = pyvips.Image.new_from_array(levels).copy(interpretation="srgb" if dtype == np.uint8 else "rgb16")
    image.pngsave(str(tmp_path / "a.png"), filter="all")
    write_photo(Photo.open(tmp_path / "a.png"), tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size < 1.05 * (tmp_path / "a.png").stat().st_size + 2000


def test_failing_stripes_leave_no_file_and_no_thread(make_photo, tmp_path):
    photo = Photo.open(make_photo("a.png")[0])
    for error, stripes in [
        (RuntimeError, halves(photo)),
        (ValueError, iter([photo.read_rows(0, 20)])),
        (ValueError, iter([photo.read_rows(0, 20)[:, :-1]])),
        (ValueError, iter([photo.read(), photo.read_rows(0, 1)])),
    ]:
        with pytest.raises(error):
            photo.write_stripes(tmp_path / "out.png", stripes)
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
    assert not [thread for thread in threading.enumerate() if thread.name == "photo-writer"]


def live_images():
    return sum(type(entry) is pyvips.Image for entry in gc.get_objects())


@pytest.mark.parametrize("why", ["the photo is cut off", "the output cannot be written"])
def test_failing_stripes_keep_no_memory_until_garbage_collection(make_photo, tmp_path, monkeypatch, why):
    path, _ = make_photo("a.png", size=(300, 500))
    if why == "the photo is cut off":
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    else:
        monkeypatch.setattr(writing, "open", lambda path, mode: FullDisk(path, mode), raising=False)
    gc.collect()
    gc.disable()
    try:
        before = live_images()
        for _ in range(3):
            with pytest.raises((ValueError, OSError), match="cannot be"):
                write_photo(Photo.open(path), tmp_path / "out.png")
        assert live_images() == before
    finally:
        gc.enable()


def test_failing_overwrite_keeps_the_old_file(make_photo):
    path, pixels = make_photo("a.png")
    photo = Photo.open(path)
    with pytest.raises(RuntimeError):
        photo.write_stripes(path, halves(photo))
    assert (Photo.open(path).read() == pixels).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_cut_off_file_is_an_error_and_leaves_no_output(make_photo, tmp_path, suffix):
    path, _ = make_photo(f"a{suffix}", size=(400, 500))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    for attempt in (
        lambda photo: photo.read(),
        lambda photo: photo.thumbnail(100),
        lambda photo: [photo.read_rows(y, y + 100) for y in range(0, 400, 100)],
        lambda photo: write_photo(photo, tmp_path / f"out{suffix}"),
    ):
        with pytest.raises(ValueError, match=rf"a{suffix}: (cannot be read|is)") as caught:
            attempt(Photo.open(path))
        assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_the_output_cannot_hold_is_refused(make_photo, tmp_path):
    deep, _ = make_photo("deep.png", dtype=np.uint16)
    clear, _ = make_photo("clear.png", alpha=True)
    inks, _ = make_photo("inks.tif", kind="cmyk")
    for path, name, message in [
        (deep, "o.jpg", "16 bits per channel and JPEG holds 8; write it as PNG or TIFF, or convert it with --convert"),
        (deep, "o.webp", "16 bits per channel and WebP holds 8"),
        (deep, "o.avif", "16 bits per channel and AVIF holds 12"),
        (clear, "o.jpg", "transparency and JPEG does not"),
        (inks, "o.png", "CMYK and PNG is not; write it as TIFF"),
        (inks, "o.xyz", "the name must end in one of .jpg"),
    ]:
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            write_photo(Photo.open(path), tmp_path / name)
        assert not (tmp_path / name).exists()


WHITE, EIGHT = "transparency flattened onto white", "16 bits rounded to 8"


@pytest.mark.parametrize(
    ("kind", "dtype", "suffix", "what"),
    [
        ("rgb", np.uint16, ".jpg", f"JPEG: {EIGHT}, {WHITE}"),
        ("rgb", np.uint8, ".jpg", f"JPEG: {WHITE}"),
        ("grey", np.uint16, ".jpg", f"JPEG: {EIGHT}, {WHITE}"),
        ("rgb", np.uint16, ".webp", f"WebP: {EIGHT}"),
        ("rgb", np.uint16, ".avif", f"AVIF: {EIGHT}"),
    ],
)
def test_depth_and_transparency_are_converted_on_request(make_photo, tmp_path, caplog, kind, dtype, suffix, what):
    path, pixels = make_photo("a.png", kind=kind, dtype=dtype, alpha=True)
    target = tmp_path / f"o{suffix}"
    write_photo(Photo.open(path), target, quality=100, convert=True)
    levels = pixels / np.iinfo(dtype).max
    colours, opacity = levels[..., :-1], levels[..., -1:]
    expected = 255 * (colours * opacity + 1 - opacity if suffix == ".jpg" else colours)
    with Image.open(target) as image:
        assert image.mode.endswith("A") == (suffix != ".jpg")
        errors = np.abs(np.asarray(image.convert("RGB")) - expected)
    assert errors.mean() < 3 and errors.max() < 32  # of lossy coding
    assert f"{target}: converted for {what}" in caplog.messages


def test_conversion_rounds_to_the_nearest():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    np.testing.assert_array_equal(Reduction(depth=True).apply(values), np.rint(values / 257))
    rgba = np.random.default_rng(0).integers(0, 65536, (64, 64, 4), dtype=np.uint16)
    rgba[0, 0], rgba[0, 1], rgba[0, 2] = 0, 65535, (9, 8, 7, 65535)
    opacity = rgba[..., 3:] / 65535
    blended = Reduction(opacity=True).apply(rgba)
    np.testing.assert_array_equal(blended, np.rint(rgba[..., :3] * opacity + 65535 * (1 - opacity)))
    assert blended[0, :3].tolist() == [[65535] * 3, [65535] * 3, [9, 8, 7]]


def test_conversion_changes_nothing_where_it_is_not_needed(make_photo, tmp_path, caplog):
    path, pixels = make_photo("a.png", dtype=np.uint16, alpha=True)
    write_photo(Photo.open(path), tmp_path / "o.tif", convert=True)
    np.testing.assert_array_equal(stored(tmp_path / "o.tif"), pixels)
    assert "converted" not in caplog.text


def test_cmyk_and_extra_channels_are_not_converted(make_photo, tmp_path):
    inks, _ = make_photo("inks.tif", kind="cmyk", dtype=np.uint16, alpha=True)
    for name, message in (("o.png", "CMYK and PNG is not"), ("o.jpg", "transparency and JPEG does not")):
        with pytest.raises(ValueError, match=f"{message}; write it as TIFF$"):
            write_photo(Photo.open(inks), tmp_path / name, convert=True)
    spots = tmp_path / "spots.tif"
    levels = smooth_pixels(40, 40, 4, np.uint16)
    tifffile.imwrite(spots, levels, photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(ValueError, match="channels besides colours and transparency"):
        write_photo(Photo.open(spots), tmp_path / "o.jpg", convert=True)


def test_unwritable_output_is_an_os_error(make_photo, tmp_path):
    photo = Photo.open(make_photo("a.png")[0])
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match=r"folder.png: cannot be written: is a folder"):
        write_photo(photo, tmp_path / "folder.png")
    with pytest.raises(OSError, match=r"out.png: cannot be written: no such file or directory"):
        write_photo(photo, tmp_path / "nowhere" / "out.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"out.png: cannot be written: not a directory"):
        write_photo(photo, tmp_path / "file" / "out.png")


class FullDisk(io.FileIO):
    """A file that takes a few bytes only."""

    number = errno.ENOSPC

    def write(self, data):
        if self.tell() + len(data) > 1000:
            raise OSError(self.number, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_full_disk_is_named_and_leaves_no_output(make_photo, tmp_path, monkeypatch, suffix, number):
    monkeypatch.setattr(FullDisk, "number", number)
    photo = Photo.open(make_photo("a.png", size=(600, 500))[0])

    def fail(self, *arguments, **options):
        raise pyvips.Error("unable to call save", "wbuffer_write: write failed\nunix error: Unknown error -1")

    monkeypatch.setattr(writing, "open", lambda path, mode, **options: FullDisk(path, mode), raising=False)
    monkeypatch.setattr(pyvips.Image, "heifsave", fail, raising=False)
    monkeypatch.setattr(sink.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(OSError, match=rf"out{suffix}: cannot be written: the disk is full$"):
        write_photo(photo, tmp_path / f"out{suffix}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_stripe_that_does_not_fit_is_refused(make_photo, tmp_path):
    photo = Photo.open(make_photo("a.png", size=(61, 83))[0])
    for stripe in [
        np.zeros((5, 82, 3), np.uint8),
        np.zeros((62, 83, 3), np.uint8),
        np.zeros((5, 83, 3), np.uint16),
        np.zeros((5, 83), np.uint8),
    ]:
        with pytest.raises(ValueError, match="does not fit"):
            photo.write_stripes(tmp_path / "out.png", [stripe])


def test_stripes_are_written_while_they_are_made(make_photo, tmp_path):
    """The writer may run ahead of the file by a few blocks, never by the photo."""
    path, _ = make_photo("a.tif", size=(4096, 64), compression="none")
    photo = Photo.open(path)
    asked = []
    consumed = []
    original = pyvips.SourceCustom.on_read

    def counting(self, handler):
        def read(size):
            data = handler(size)
            consumed.append(len(data))
            return data

        original(self, read)

    def stripes():
        for y in range(0, 4096, 64):
            asked.append((y * 64 * 3, sum(consumed)))
            yield photo.read_rows(y, y + 64)

    pyvips.SourceCustom.on_read = counting
    try:
        photo.write_stripes(tmp_path / "out.tif", stripes())
    finally:
        pyvips.SourceCustom.on_read = original
    assert max(made - taken for made, taken in asked) < 4096 * 64 * 3 / 2
    np.testing.assert_array_equal(stored(tmp_path / "out.tif"), stored(path))


def test_names_with_brackets_are_names(make_photo, tmp_path):
    path, pixels = make_photo("plain.png")
    odd = path.rename(tmp_path / "räv [n=2].png")
    write_photo(Photo.open(odd), tmp_path / "out[Q=1].png")
    assert (Photo.open(tmp_path / "out[Q=1].png").read() == pixels).all()


def test_smooth_pixels_are_not_flat():
    assert smooth_pixels(20, 20, 3, np.uint8).std() > 10
