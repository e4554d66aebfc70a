"""What of a file's metadata an output carries, read by Pillow and tifffile."""

import io
import logging
import os
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
import pyvips
from PIL import Image, PngImagePlugin
from retouch_common.photo.exif import Exif, bytes_entry, with_entries
from retouch_common.photo.image_resources import join_resources, split_resources
from retouch_common.photo.io import Photo
from retouch_common.photo.jpeg_segments import segment
from retouch_common.photo.png_chunks import chunk, raw_profile

from ..conftest import smooth_pixels, write_photo

tifffile = pytest.importorskip("tifffile")
SUFFIXES = [".jpg", ".png", ".tif", ".webp", ".avif"]
PIXELS = smooth_pixels(60, 80, 3, np.uint8)
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = b"\x1c\x01Z\x00\x03\x1b%G" + b"\x1c\x02x\x00\x06" + "Fête".encode() + b"!" + b"\x1c\x02P\x00\x04Zoe\xff"
PREVIEW = io.BytesIO()
Image.new("RGB", (32, 24), (200, 30, 30)).save(PREVIEW, "JPEG")
PREVIEW = PREVIEW.getvalue()


def resource(number, data):
    return b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + b"\0" * (len(data) % 2)


def with_segments(jpeg, *segments):
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def jpeg(**options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", quality=95, subsampling=0, **options)
    return file.getvalue()


def rewritten(path, suffix):
    """Write a photo as it is in a format; return its path."""
    out = path.with_name("out" + suffix)
    write_photo(Photo.open(path), out)
    return out


def write_with_iptc(path):
    app13 = segment(0xED, b"Photoshop 3.0\0" + resource(1028, IPTC))
    if path.suffix == ".jpg":
        path.write_bytes(with_segments(jpeg(), app13))
    elif path.suffix == ".tif":
        # As Photoshop does: bytes, declared as 32-bit integers and padded.
        padded = IPTC + b"\0" * (-len(IPTC) % 4)
        tag = (33723, 4, len(padded) // 4, np.frombuffer(padded, "<u4").tolist(), False)
        tifffile.imwrite(path, PIXELS, photometric="rgb", extratags=[tag])
    elif path.suffix == ".png":
        plain = io.BytesIO()
        Image.fromarray(PIXELS).save(plain, "PNG")
        plain = plain.getvalue()
        path.write_bytes(plain[:33] + chunk(b"zTXt", raw_profile("iptc", resource(1028, IPTC))) + plain[33:])
    else:
        exif = Image.Exif()
        exif[33723] = IPTC
        Image.fromarray(PIXELS).save(path, exif=exif)


def iptc_of(path):
    """Read IPTC as other programs do, trailing zeros removed."""
    if path.suffix == ".jpg":
        with Image.open(path) as image:
            return image.info["photoshop"][1028]
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            return bytes(file.pages[0].tags[33723].value).rstrip(b"\0")
    with Image.open(path) as image:
        if path.suffix == ".png":
            lines = image.info["Raw profile type iptc"].split("\n")
            return split_resources(bytes.fromhex("".join(lines[3:])))[0]
        value = image.getexif()[33723]
        return value if isinstance(value, bytes) else bytes(value)


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", SUFFIXES)
def test_iptc_keeps_its_bytes_in_every_format(tmp_path, source, target):
    path = tmp_path / f"a{source}"
    write_with_iptc(path)
    assert iptc_of(rewritten(path, target)).rstrip(b"\0") == IPTC


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_iptc_is_stored_once_however_often_a_photo_is_written(tmp_path, suffix):
    write_with_iptc(tmp_path / "a.jpg")
    first = rewritten(tmp_path / "a.jpg", suffix)
    assert rewritten(first, suffix).read_bytes().count(IPTC) == 1


def exif_with_notes(order=b"II"):
    """An EXIF block with maker notes that hold a preview, a rating, a host, an unknown tag, and a thumbnail."""
    form = "<" if order == b"II" else ">"
    entries = [
        (274, 3, struct.pack(form + "H", 6)),
        (316, 2, b"host computer\0"),
        (18246, 3, struct.pack(form + "H", 4)),
    ]
    entries.append((51234, 7, b"unknown tag"))
    notes = b"MAKER" + PREVIEW + b"end"

    def directory(entries, at, following=0):
        head, values = struct.pack(form + "H", len(entries)), b""
        start = at + 2 + 12 * len(entries) + 4
        for tag, kind, value in sorted(entries):
            count = len(value) // {2: 1, 3: 2, 4: 4, 7: 1}[kind]
            place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(form + "I", start + len(values))
            values += value if len(value) > 4 else b""
            head += struct.pack(form + "HHI", tag, kind, count) + place
        return head + struct.pack(form + "I", following) + values

    sub = directory([(37500, 7, notes), (40962, 4, struct.pack(form + "I", 9999))], 8)
    first_at = 8 + len(sub)
    pointer = (34665, 4, struct.pack(form + "I", 8))
    second_at = first_at + len(directory([*entries, pointer], first_at))
    first = directory([*entries, pointer], first_at, second_at)
    thumbnail_at = second_at + 2 + 12 * 2 + 4
    places = [(513, 4, struct.pack(form + "I", thumbnail_at)), (514, 4, struct.pack(form + "I", len(PREVIEW)))]
    head = order + struct.pack(form + "HI", 42, first_at)
    return head + sub + first + directory(places, second_at) + PREVIEW, notes


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_exif_keeps_unknown_tags_and_maker_notes_but_no_preview(tmp_path, order, target):
    block, notes = exif_with_notes(order)
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(exif=b"Exif\0\0" + block))
    out = rewritten(path, target)
    with Image.open(out) as image:
        assert image.size == (60, 80)  # upright
        exif = image.getexif()
        assert exif.get(274, 1) == 1 and exif[316] == "host computer" and exif[18246] == 4
        inner = exif.get_ifd(34665)
        assert inner[40962] == 60
        kept = inner[37500]
        assert kept.startswith(b"MAKER") and kept.endswith(b"end") and len(kept) == len(notes)
        if target != ".tif":
            assert exif[51234] == b"unknown tag"
            assert not exif.get_ifd(1)
    assert PREVIEW[20:] not in out.read_bytes()


@pytest.mark.parametrize("number", [1033, 1036])
def test_previews_of_photoshop_are_dropped_and_other_resources_kept(tmp_path, number):
    others = resource(1061, b"digest of sixteen") + resource(1037, b"angle")
    block = resource(number, b"\0" * 28 + PREVIEW) + others + resource(1028, IPTC)
    path = tmp_path / "a.jpg"
    path.write_bytes(with_segments(jpeg(), segment(0xED, b"Photoshop 3.0\0" + block)))
    for suffix in SUFFIXES:
        out = rewritten(path, suffix)
        assert PREVIEW[20:] not in out.read_bytes()
    with Image.open(rewritten(path, ".jpg")) as image:
        assert sorted(image.info["photoshop"]) == [1028, 1037, 1061]
    tiff = rewritten(path, ".tif")
    with tifffile.TiffFile(tiff) as file:
        assert bytes(file.pages[0].tags[34377].value) == others
    tag = (34377, 7, len(block), block, False)
    tifffile.imwrite(tmp_path / "b.tif", PIXELS, photometric="rgb", extratags=[tag])
    out = rewritten(tmp_path / "b.tif", ".tif")
    assert PREVIEW[20:] not in out.read_bytes()
    assert iptc_of(out) == IPTC


def test_xmp_keeps_its_text_without_previews(tmp_path):
    xmp = f"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
    <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
      xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/"
      xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:mine="urn:mine" mine:note="ü &amp; ö" xmp:Rating="5">
      <dc:creator><rdf:Seq><rdf:li>Jürgen</rdf:li></rdf:Seq></dc:creator>
      <xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource"><xmpGImg:image>{"QUJD" * 40}</xmpGImg:image></rdf:li>
      </rdf:Alt></xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(xmp=xmp))
    for suffix in SUFFIXES:
        with Image.open(rewritten(path, suffix)) as image:
            found = image.info["xmp"]
        assert b"QUJD" not in found and b"Thumbnails" not in found
        (description,) = ElementTree.fromstring(found.rstrip(b"\0")).iter(f"{RDF}Description")
        assert description.get("{urn:mine}note") == "ü & ö"
        assert description.get("{http://ns.adobe.com/xap/1.0/}Rating") == "5"
        assert [entry.text for entry in description.iter(f"{RDF}li")] == ["Jürgen"]


@pytest.mark.parametrize("bad", [b"<x:xmpmeta", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", b"<a/>"])
def test_malformed_xmp_is_dropped_and_named(tmp_path, caplog, bad):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(xmp=bad))
    with Image.open(rewritten(path, ".jpg")) as image:
        assert "xmp" not in image.info
    assert "out.jpg: not carried over from a.jpg: XMP (malformed)" in caplog.text


def test_text_of_a_png_keeps_umlauts_languages_and_keywords_of_two_words(tmp_path, caplog):
    text = PngImagePlugin.PngInfo()
    text.add_text("Creation Time", "2024:01:02 03:04:05")
    text.add_text("Author", "Jürgen")
    text.add_itxt("Title", "日本", "ja", "題", zip=True)
    text.add_text("Long", "x" * 5000, zip=True)
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path, pnginfo=text)
    with Image.open(rewritten(path, ".png")) as image:
        image.load()
        assert image.text == {
            "Creation Time": "2024:01:02 03:04:05",
            "Author": "Jürgen",
            "Title": "日本",
            "Long": "x" * 5000,
        }
        assert (image.text["Title"].lang, image.text["Title"].tkey) == ("ja", "題")
    assert not caplog.text
    rewritten(path, ".jpg")
    assert "not carried over from a.png: text (Author, Creation Time, Long, Title)" in caplog.text


def test_keywords_and_names_do_not_steer_the_terminal(tmp_path, caplog):
    text = PngImagePlugin.PngInfo()
    text.add_text("\x1b[31mred\x9b", "")
    path = tmp_path / "\x1b[32mgreen.png"
    Image.fromarray(PIXELS).save(path, pnginfo=text)
    rewritten(path, ".jpg")
    assert r"\x1b[32mgreen.png: text (\x1b[31mred\x9b)" in caplog.text
    assert "\x1b" not in caplog.text and "\x9b" not in caplog.text


def test_comments_of_a_jpeg_are_kept(tmp_path, caplog):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_segments(jpeg(), segment(0xFE, b"first \xfc"), segment(0xFE, b"second")))
    out = rewritten(path, ".jpg").read_bytes()
    assert segment(0xFE, b"first \xfc") + segment(0xFE, b"second") in out
    assert not caplog.text
    rewritten(path, ".webp")
    assert "comments" in caplog.text


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", [".jpg", ".png", ".tif"])
def test_no_resolution_is_invented_and_a_stated_one_kept(tmp_path, source, target):
    path = tmp_path / f"a{source}"
    for dpi in (None, 300):
        Image.fromarray(PIXELS).save(path, **({"dpi": (dpi, dpi)} if dpi else {}))
        with Image.open(rewritten(path, target)) as image:
            exif = image.getexif()
            if target in (".webp", ".avif"):
                assert exif.get(282) == dpi and exif.get(296) == (2 if dpi else None)
            else:
                found = image.info.get("dpi")
                assert found is None if dpi is None else found == pytest.approx((dpi, dpi), abs=0.01)


def test_what_is_not_carried_is_named(tmp_path, caplog):
    path = tmp_path / "a.jpg"
    motion = b"\0\0\0\x18ftypmp42" + b"video" * 9
    extended = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", 9, 0) + b"<x/>12345"
    path.write_bytes(
        with_segments(jpeg(), segment(0xE1, extended), segment(0xE5, b"RMETA\0data"), segment(0xEC, b"Ducky\0x"))
        + PREVIEW
        + motion
    )
    rewritten(path, ".jpg")
    for words in ("extended XMP", "APP5 'RMETA'", "APP12 'Ducky'", "1 further image"):
        assert words in caplog.text
    caplog.clear()
    path.write_bytes(jpeg() + motion)
    rewritten(path, ".jpg")
    assert "data after the image (a motion photo's video, or a maker's own)" in caplog.text
    caplog.clear()
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(PIXELS, photometric="rgb", extratags=[(65001, 2, 0, "own", False)], subifds=1, metadata=None)
        writer.write(PIXELS[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    rewritten(tmp_path / "b.tif", ".tif")
    assert "sub-images (such as smaller versions); tag 65001" in caplog.text
    caplog.clear()
    plain = io.BytesIO()
    Image.fromarray(PIXELS).save(plain, "PNG")
    plain = plain.getvalue()
    (tmp_path / "c.png").write_bytes(plain[:33] + chunk(b"vpAg", b"\0" * 9) + plain[33:])
    rewritten(tmp_path / "c.png", ".png")
    assert "c.png: chunk vpAg" in caplog.text
    assert all(record.levelno == logging.WARNING for record in caplog.records)


PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:p="http://ns.adobe.com/photoshop/1.0/" '
    b'p:Instructions="one&#xA;two&#x9;three">'
    b"<p:Headline>four&#xD;\nfive</p:Headline></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def png_with(path, *chunks, at=-12):
    """A PNG file with chunks inserted, by default after its pixels."""
    plain = io.BytesIO()
    Image.fromarray(PIXELS).save(plain, "PNG")
    data = plain.getvalue()
    path.write_bytes(data[:at] + b"".join(chunks) + data[at:])
    return path


@pytest.mark.parametrize("at", [33, -12])
@pytest.mark.parametrize("compressed", [False, True])
def test_xmp_of_a_png_is_kept_wherever_it_stands_with_its_line_breaks(tmp_path, caplog, at, compressed):
    text = b"\1\0\0\0" + zlib.compress(PACKET) if compressed else b"\0\0\0\0" + PACKET
    path = png_with(tmp_path / "a.png", chunk(b"iTXt", b"XML:com.adobe.xmp\0" + text), at=at)
    for _ in range(2):  # what is written is read as before
        path = rewritten(path, ".png")
        about = ElementTree.fromstring(Photo.open(path)._metadata.xmp)[0][0]
        assert about.get("{http://ns.adobe.com/photoshop/1.0/}Instructions") == "one\ntwo\tthree"
        assert about[0].text == "four\r\nfive"
    assert not caplog.text


def test_of_several_xmp_chunks_the_first_sound_one_is_kept(tmp_path, caplog):
    damaged = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + b"not deflated")
    sound = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + PACKET)
    for number, chunks in enumerate([(damaged, sound, sound), (damaged,)]):
        path = png_with(tmp_path / f"{number}.png", *chunks, at=33)
        assert (Photo.open(path)._metadata.xmp or b"") == (PACKET if sound in chunks else b"")
        rewritten(path, ".png")
    assert "0.png: XMP (malformed); further XMP" in caplog.text and "1.png: XMP (malformed)" in caplog.text


def test_large_chunks_that_are_not_compressed_are_named(tmp_path, caplog):
    path = png_with(tmp_path / "a.png", chunk(b"prVt", bytes((1 << 26) + 1)), at=33)
    rewritten(path, ".png")
    assert "a.png: chunk prVt" in caplog.text


def test_raw_profiles_of_a_png_are_read_or_named(tmp_path, caplog):
    """Of ImageMagick: XMP, EXIF that is damaged, and a colour profile, which no viewer takes from there."""
    profiles = {"xmp": PACKET, "exif": b"", "icc": b"profile"}
    chunks = [chunk(b"zTXt", raw_profile(name, data)) for name, data in profiles.items()]
    photo = Photo.open(png_with(tmp_path / "a.png", *chunks, at=33))
    assert b"Headline" in photo._metadata.xmp
    rewritten(tmp_path / "a.png", ".png")
    assert "a.png: raw profile 'icc'; EXIF (malformed)" in caplog.text


def test_a_bigtiff_in_exif_is_malformed(tmp_path, caplog):
    """Its records are longer: to change them would falsify others."""
    entry = struct.pack("<HHQQ", 34853, 4, 1, 26)
    block = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + struct.pack("<Q", 1) + entry + bytes(16)
    path = tmp_path / "a.jpg"
    path.write_bytes(with_segments(jpeg(), segment(0xE1, b"Exif\0\0" + block)))
    photo = Photo.open(path)
    photo.write_stripes(tmp_path / "out.jpg", [photo.read()], strip="gps")
    assert "EXIF (malformed)" in caplog.text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_folders_whose_names_are_not_utf_8(tmp_path, suffix):
    folder = tmp_path / os.fsdecode(b"fa\xe7ade")
    folder.mkdir()
    Image.fromarray(PIXELS).save(folder / f"a{suffix}")
    assert Photo.open(rewritten(folder / f"a{suffix}", suffix)).height == PIXELS.shape[0]


def test_a_colour_profile_that_is_too_large_for_jpeg_is_refused(tmp_path):
    profile = bytearray(pyvips.Operation.call("profile_load", "p3"))
    profile += bytes(17_000_000)
    profile[:4] = struct.pack(">I", len(profile))
    image = pyvips.Image.new_from_array(PIXELS).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", bytes(profile))
    image.tiffsave(str(tmp_path / "a.tif"))
    with pytest.raises(ValueError, match=r"b\.jpg: the photo's colour profile is too large for JPEG; write it as TIFF"):
        Photo.open(tmp_path / "a.tif").check_output(tmp_path / "b.jpg")


def test_iptc_that_is_none_is_named(tmp_path, caplog):
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type iptc", "\niptc\n 3\n616263")
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=text)
    write_photo(Photo.open(tmp_path / "a.png"), tmp_path / "out.png")
    assert caplog.text.rstrip().endswith("not carried over from a.png: IPTC (malformed)")


def test_plain_photos_lose_nothing(tmp_path, caplog):
    for source in SUFFIXES:
        Image.fromarray(PIXELS).save(tmp_path / f"a{source}")
        for target in SUFFIXES:
            rewritten(tmp_path / f"a{source}", target)
    assert not caplog.text


@pytest.mark.parametrize("extra", ["unspecified", "unassalpha"])
def test_extra_channels_of_a_tiff_keep_their_meaning(tmp_path, extra):
    pixels = np.dstack([PIXELS, PIXELS[..., :1]])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=[extra])
    with tifffile.TiffFile(rewritten(path, ".tif")) as file:
        assert [entry.name.lower() for entry in file.pages[0].extrasamples] == [extra]
        np.testing.assert_array_equal(file.asarray(), pixels)
    if extra == "unspecified":
        with pytest.raises(ValueError, match=r"out.png: the photo has channels besides colours .* write it as TIFF"):
            rewritten(path, ".png")


@pytest.mark.parametrize("tag", [True, False])
def test_further_channels_of_a_tiff_are_refused_by_other_formats(tmp_path, tag):
    """Two channels besides the colours, both opacities as libvips tags them, or without a tag."""
    path = tmp_path / "a.tif"
    if tag:
        image = pyvips.Image.new_from_array(np.dstack([PIXELS, PIXELS[..., :2]]), interpretation="srgb")
        image.tiffsave(str(path))
    else:
        tifffile.imwrite(path, np.dstack([PIXELS, PIXELS[..., :2]]), photometric="rgb")
    assert Photo.open(rewritten(path, ".tif")).read().shape == PIXELS.shape
    for suffix in (".png", ".webp", ".avif", ".jpg"):
        with pytest.raises(ValueError, match="the photo has channels besides colours"):
            rewritten(path, suffix)


def test_tags_that_a_tiff_does_not_take_over_are_named(tmp_path, caplog):
    exif = Image.Exif()
    exif[271], exif[50341] = "Maker", b"PrintIM\0"
    (tmp_path / "a.jpg").write_bytes(jpeg(exif=exif))
    with Image.open(rewritten(tmp_path / "a.jpg", ".tif")) as image:
        assert image.getexif()[271] == "Maker"
    assert "not carried over from a.jpg: tag 50341" in caplog.text
    caplog.clear()
    with Image.open(rewritten(tmp_path / "a.jpg", ".png")) as image:
        assert 50341 in image.getexif()
    assert not caplog.text


def test_size_in_the_first_directory_of_exif_is_that_of_the_upright_photo(tmp_path):
    exif = Image.Exif()
    exif[256], exif[257], exif[274] = 80, 60, 6
    (tmp_path / "a.jpg").write_bytes(jpeg(exif=exif))
    with Image.open(rewritten(tmp_path / "a.jpg", ".jpg")) as image:
        assert (image.size, image.getexif()[256], image.getexif()[257]) == ((60, 80), 60, 80)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "count", "form", "value"),
    [(1, 1, "B", 6), (3, 2, "HH", 6), (4, 1, "I", 6), (8, 1, "h", 6), (9, 1, "i", 6), (3, 3, "I", 26)],
    ids=["BYTE", "two SHORTs", "LONG", "SSHORT", "SLONG", "three SHORTs elsewhere"],
)
def test_an_orientation_of_any_type_is_applied_once(tmp_path, suffix, order, kind, count, form, value):
    values = (value, value) if count == 2 else (value,)
    field = struct.pack(order + form, *values).ljust(4, b"\0")
    exif = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    exif += struct.pack(order + "HHHI", 1, 274, kind, count) + field + bytes(4) + struct.pack(order + "3H2x", 6, 6, 6)
    Image.fromarray(PIXELS).save(tmp_path / f"a{suffix}", exif=b"Exif\0\0" + exif)
    photo = Photo.open(tmp_path / f"a{suffix}")
    assert (photo.height, photo.width) == (80, 60)
    with Image.open(rewritten(photo.path, suffix)) as image:
        assert image.size == (60, 80) and image.getexif()[274] == 1
    again = Photo.open(tmp_path / f"out{suffix}")
    assert (again.height, again.width) == (80, 60)


def test_grey_avif_stays_grey_and_lossless_avif_lossless(tmp_path):
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "grey.avif", quality=95)
    photo = Photo.open(tmp_path / "grey.avif")
    assert photo.kind == "grey"
    reddish = photo.read()
    reddish[..., 0] //= 2
    photo.write_stripes(tmp_path / "out.avif", [reddish])
    with Image.open(tmp_path / "out.avif") as image:
        levels = np.asarray(image.convert("RGB")).astype(int)
    assert np.ptp(levels, axis=2).max() <= 1
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    pyvips.Image.new_from_array(noise).heifsave(str(tmp_path / "exact.avif"), compression="av1", lossless=True)
    with Image.open(rewritten(tmp_path / "exact.avif", ".avif")) as image:
        np.testing.assert_array_equal(np.asarray(image), noise)


def test_damaged_blocks_do_not_stop_a_photo(tmp_path):
    """Whatever the metadata hold, the photo is written or refused in one line."""
    block, _ = exif_with_notes()
    generator = np.random.default_rng(1)
    resources = resource(1028, IPTC) + resource(1061, b"digest")
    for number in range(120):
        damaged = bytearray(block)
        for at in generator.integers(0, 120, 3):
            damaged[at] = generator.integers(0, 256)
        cut = resources[: generator.integers(0, len(resources))]
        path = tmp_path / "a.jpg"
        path.write_bytes(
            with_segments(jpeg(), segment(0xE1, b"Exif\0\0" + bytes(damaged)), segment(0xED, b"Photoshop 3.0\0" + cut))
        )
        written = tmp_path / f"out{SUFFIXES[number % 5]}"
        write_photo(Photo.open(path), written)
        assert sorted(Photo.open(written).read().shape) == sorted(PIXELS.shape)  # a damaged orientation may turn it


def test_entries_are_added_without_moving_others():
    block, notes = exif_with_notes(b"MM")
    at = block.index(notes)
    extended = with_entries(block, [bytes_entry(33723, IPTC)])
    assert extended[at : at + len(notes)] == notes and Exif(extended).value(33723) == IPTC
    assert Exif(with_entries(None, [bytes_entry(33723, IPTC)])).value(33723) == IPTC
    assert split_resources(join_resources(IPTC, None)) == (IPTC, None)
