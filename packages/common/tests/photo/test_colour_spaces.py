"""The network is given sRGB, and its change is carried back into the colours of the file; Pillow's littleCMS judges."""

import io
import struct

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms
from retouch_common.photo.cicp import matrix_profile
from retouch_common.photo.io import Photo
from retouch_common.photo.png_chunks import chunk

SRGB = ImageCms.createProfile("sRGB")
ADOBE = matrix_profile(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290)), (563 / 256,))
PROPHOTO = matrix_profile(((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585)), (1.8,))
LINEAR_2020 = matrix_profile(((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), (0.3127, 0.3290)), (1.0,))
PROFILES = {"Adobe RGB": ADOBE, "ProPhoto": PROPHOTO, "linear Rec. 2020": LINEAR_2020}


def as_srgb(pixels, profile):
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(pixels), source, SRGB, 1, outputMode="RGB")).astype(int)


def skin(height=60, width=80):
    """Muted colours, as of skin, which all the spaces contain."""
    y, x = np.mgrid[:height, :width]
    return np.stack([150 + x // 2, 110 + y // 2, 95 + (x + y) // 4], -1).astype(np.uint8)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_network_sees_srgb_and_the_change_arrives(tmp_path, name, suffix):
    profile = PROFILES[name]
    stored = skin()
    path, out = tmp_path / f"a{suffix}", tmp_path / f"out{suffix}"
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True, "exact": True}}.get(suffix, {})
    Image.fromarray(stored).save(path, icc_profile=profile, **options)
    photo = Photo.open(path)
    seen = photo.read()
    tolerance = 3 if suffix == ".jpg" else 1.5
    assert np.abs(seen - as_srgb(stored, profile)).mean() < tolerance
    assert np.abs(photo.thumbnail(80).astype(int) - seen).mean() < 1
    seen[20:40, 20:40] = (seen[20:40, 20:40] * 0.9).astype(np.uint8)
    photo.write_stripes(out, [seen])
    with Image.open(out) as image:
        assert image.info["icc_profile"] == profile
        after = np.asarray(image.convert("RGB"))
    assert np.abs(as_srgb(after, profile) - seen)[20:40, 20:40].mean() < 3
    if suffix != ".jpg":
        inside = np.zeros(stored.shape[:2], bool)
        inside[20:40, 20:40] = True
        np.testing.assert_array_equal(after[~inside], stored[~inside])


def test_srgb_profiles_do_not_touch_a_bit(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=ImageCms.ImageCmsProfile(SRGB).tobytes())
    np.testing.assert_array_equal(Photo.open(tmp_path / "a.png").read(), noise)


def test_grey_goes_through_its_profile(tmp_path):
    grey = pyvips.Image.new_from_array(skin()[..., 0]).copy(interpretation="b-w")
    grey.tiffsave(str(tmp_path / "a.tif"), profile=str(gamma_one(tmp_path)))
    photo = Photo.open(tmp_path / "a.tif")
    linear = skin()[..., 0] / 255
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    seen = photo.read()
    assert np.abs(seen - expected[..., None]).mean() < 1.5
    photo.write_stripes(tmp_path / "out.tif", [(seen * 0.9).astype(np.uint8)])
    assert np.abs(Photo.open(tmp_path / "out.tif").read() - seen * 0.9).mean() < 2


def gamma_one(folder):
    """A grey profile of gamma 1."""
    curve = b"curv" + struct.pack(">II", 0, 0)
    text = b"text\0\0\0\0x\0\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    tags, data, at = [], b"", 128 + 4 + 12 * 4
    for name, value in (
        (b"desc", b"desc\0\0\0\0\0\0\0\2x\0" + b"\0" * 78),
        (b"cprt", text),
        (b"wtpt", white),
        (b"kTRC", curve),
    ):
        tags.append(struct.pack(">4sII", name, at + len(data), len(value)))
        data += value + b"\0" * (-len(value) % 4)
    body = struct.pack(">I", len(tags)) + b"".join(tags) + data
    head = struct.pack(">II4s4s4s4s", 128 + len(body), 0, b"\2\x40\0\0", b"mntr", b"GRAY", b"XYZ ")
    head = (head + b"\0" * 12 + b"acsp").ljust(68, b"\0") + struct.pack(">iii", 63190, 65536, 54061) + b"\0" * 48
    path = folder / "grey.icc"
    path.write_bytes(head + body)
    return path


def png_with(path, *chunks):
    plain = io.BytesIO()
    Image.fromarray(skin()).save(plain, "PNG")
    plain = plain.getvalue()
    path.write_bytes(plain[:33] + b"".join(chunks) + plain[33:])
    return path


P3 = chunk(b"cICP", bytes([12, 13, 0, 1]))
CHRM = chunk(b"cHRM", np.array([31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000], ">u4").tobytes())
LINEAR = chunk(b"gAMA", (100_000).to_bytes(4, "big"))
GAMMA = chunk(b"gAMA", (45455).to_bytes(4, "big"))


@pytest.mark.parametrize("chunks", [(P3,), (GAMMA, CHRM), (LINEAR,)])
def test_colour_chunks_of_png_are_carried(tmp_path, chunks):
    photo = Photo.open(png_with(tmp_path / "a.png", *chunks))
    seen = photo.read()
    assert np.abs(seen.astype(int) - skin()).mean() > 2
    photo.write_stripes(tmp_path / "out.png", [seen])
    written = (tmp_path / "out.png").read_bytes()
    assert all(entry in written for entry in chunks)
    with Image.open(tmp_path / "out.png") as image:
        np.testing.assert_array_equal(np.asarray(image), skin())
    photo.write_stripes(tmp_path / "out.tif", [seen])
    with Image.open(tmp_path / "out.tif") as image:
        carried = as_srgb(np.asarray(image), image.info["icc_profile"])
    assert np.abs(carried - seen).mean() < 1.5


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("chunks", [(LINEAR,), (chunk(b"cICP", bytes([1, 8, 0, 1])),), (GAMMA, CHRM)])
def test_colour_chunks_of_a_grey_png_are_carried(tmp_path, caplog, chunks, suffix):
    file, grey = io.BytesIO(), skin()[..., 0]
    Image.fromarray(grey).save(file, "PNG")
    plain = file.getvalue()
    (tmp_path / "a.png").write_bytes(plain[:33] + b"".join(chunks) + plain[33:])
    photo = Photo.open(tmp_path / "a.png")
    seen = photo.read()
    if chunks == (GAMMA, CHRM):
        np.testing.assert_array_equal(seen, np.dstack([grey] * 3))  # greys have no primaries
    else:
        light = grey / 255.0
        expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        assert np.abs(seen - expected[..., None]).max() < 2
    photo.write_stripes(tmp_path / f"out{suffix}", [seen])
    tolerance = {".jpg": 3}.get(suffix, 0)
    again = Photo.open(tmp_path / f"out{suffix}").read().astype(int)
    assert np.abs(again - seen).max() <= tolerance
    assert "colour" not in caplog.text and "ICC" not in caplog.text


def test_usual_gamma_is_srgb_and_its_chunk_stays(tmp_path):
    photo = Photo.open(png_with(tmp_path / "a.png", GAMMA))
    np.testing.assert_array_equal(photo.read(), skin())
    photo.write_stripes(tmp_path / "out.png", [photo.read()])
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["gamma"] == pytest.approx(0.45455)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ((chunk(b"cICP", bytes([9, 16, 0, 1])),), r"a.png: is HDR \(PQ\)"),
        ((chunk(b"cICP", bytes([9, 18, 0, 1])),), r"a.png: is HDR \(HLG\)"),
        ((chunk(b"cICP", bytes([99, 13, 0, 1])),), "CICP 99/13"),
        ((chunk(b"cICP", bytes([1, 13, 0, 0])),), "limited range"),
        ((chunk(b"cHRM", b"\0" * 32),), "not those of a colour space"),
    ],
)
def test_colours_that_cannot_be_carried_are_refused(tmp_path, chunks, message):
    with pytest.raises(ValueError, match=message) as caught:
        Photo.open(png_with(tmp_path / "a.png", *chunks))
    assert "\n" not in str(caught.value)


def avif_of(path, primaries, transfer):
    Image.fromarray(skin()).save(path, quality=95, subsampling="4:4:4")
    data = bytearray(path.read_bytes())
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = bytes([0, primaries, 0, transfer])
    path.write_bytes(data)
    return path


def test_colour_space_of_avif_is_carried_as_a_profile(tmp_path):
    photo = Photo.open(avif_of(tmp_path / "a.avif", 12, 13))
    seen = photo.read()
    for suffix in (".avif", ".png"):
        photo.write_stripes(tmp_path / f"out{suffix}", [seen])
        with Image.open(tmp_path / f"out{suffix}") as image:
            carried = as_srgb(np.asarray(image), image.info["icc_profile"])
        assert np.abs(carried - seen).mean() < 2
    assert np.abs(seen.astype(int) - skin()).mean() > 3
    with pytest.raises(ValueError, match=r"b.avif: is HDR \(PQ\)"):
        Photo.open(avif_of(tmp_path / "b.avif", 9, 16))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cmyk_without_black_arrives_at_the_colour_of_the_network(tmp_path, dtype):
    """The naive difference asks for less black than there is: (86, 160, 174, 0) became green."""
    inks = np.empty((40, 50, 4), dtype)
    inks[:] = np.array([30, 90, 100, 0]) * (np.iinfo(dtype).max // 255)
    inks[10:30, 10:30] = np.array([86, 160, 174, 0]) * (np.iinfo(dtype).max // 255)
    image = pyvips.Image.new_from_array(inks).copy(interpretation="cmyk")
    image.tiffsave(str(tmp_path / "a.tif"))
    photo = Photo.open(tmp_path / "a.tif")
    wanted = photo.read()
    wanted[10:30, 10:30] = wanted[0, 0]
    photo.write_stripes(tmp_path / "out.tif", [wanted])
    after = pyvips.Image.new_from_file(str(tmp_path / "out.tif"))
    shown = after.icc_transform("srgb", input_profile="cmyk", intent="relative").numpy().astype(int)
    assert np.abs(shown - wanted.astype(int) // (257 if dtype == np.uint16 else 1)).max() <= 3
    unchanged = after.numpy()[:10]
    np.testing.assert_array_equal(unchanged, inks[:10])
