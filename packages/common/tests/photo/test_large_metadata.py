"""Metadata of absurd size cost little time: what is longer than a photograph's is left out and named."""

import contextlib
import io
import struct
import time
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from retouch_common.photo.avif_boxes import read_properties
from retouch_common.photo.exif import Exif
from retouch_common.photo.image_resources import split_resources
from retouch_common.photo.io import Photo
from retouch_common.photo.jpeg_segments import APP1, read_segments, segment
from retouch_common.photo.png_chunks import SIGNATURE, ChunkInserter, chunk
from retouch_common.photo.xmp import Edit, Xmp

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">%s'
    b"</rdf:RDF></x:xmpmeta>"
)
EDIT = Edit(software="test", version="1")
EVENT = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"


@contextlib.contextmanager
def cpu_time_below(seconds):
    begin = time.process_time()
    yield
    assert time.process_time() - begin < seconds


def exif_block(entries, rest=b""):
    """Return a block of a directory with (tag, type, count, value) entries, and what follows it."""
    records = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + records + b"\0\0\0\0" + rest


def retouched(path, out):
    photo = Photo.open(path)
    pixels = photo.read()
    pixels[:4, :4] ^= 1
    photo.write_stripes(out, [pixels], edit=EDIT)
    return out


def png_with_xmp(path, packet):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    data = path.read_bytes()
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet))
    path.write_bytes(data[:33] + text + data[33:])
    return path


def events(path):
    with Image.open(path) as image:
        return [node.text for node in ElementTree.fromstring(image.info["xmp"]).iter(f"{EVENT}softwareAgent")]


def test_starts_of_previews_without_an_end_stay():
    data = exif_block([(274, 3, 1, 6)], b"\xff\xd8\xff\xe0" * 50_000)
    with cpu_time_below(0.5):
        updated = Exif(data).updated(10, 10)
    assert updated == exif_block([(274, 3, 1, 1)], b"\xff\xd8\xff\xe0" * 50_000)


def test_previews_are_blanked_up_to_their_end_markers():
    first, second = b"\xff\xd8\xff\xe0abc\xff\xd8\xff\xdb\xff\xd9", b"\xff\xd8\xff\xdbd\xff\xd9"
    data = exif_block([(271, 2, 4, 0)], b"a" + first + b"\xff\xd9b" + second + b"\xff\xd8\xff\xe0c")
    blanked = b"a" + bytes(len(first)) + b"\xff\xd9b" + bytes(len(second)) + b"\xff\xd8\xff\xe0c"
    assert Exif(data).updated(10, 10) == exif_block([(271, 2, 4, 0)], blanked)


def test_thumbnail_of_strips_that_overlap():
    num_strips, first = 100_000, 8 + 2 + 4
    directory = struct.pack("<HHHIIHHIII", 2, 273, 4, num_strips, 64, 279, 4, num_strips, 64 + 4 * num_strips, 0)
    data = bytearray(struct.pack("<2sHIHI", b"II", 42, 8, 0, first) + directory).ljust(64, b"\0")
    data += struct.pack("<I", 100) * num_strips + struct.pack("<I", 8 * num_strips) * num_strips
    with cpu_time_below(0.5):
        updated = Exif(bytes(data)).updated(10, 10)
    assert not any(updated[100 : 100 + 8 * num_strips - 100]) and len(updated) == len(data)


def test_coordinates_of_directories_that_overlap():
    length = 60_000
    values = exif_block([(1, 7, length, 13_000)] * 1000)[8:]
    entries = [(34853, 4, 1, 8 + 6 + 12 * 1000)] * 1000
    data = exif_block(entries, values).ljust(25_000 + length, b"x")
    with cpu_time_below(0.5):
        kept = Exif(data).without_gps()
    assert kept[:10] == data[:8] + b"\0\0" and len(kept) == len(data)
    assert not any(kept[10 : 13_000 + length]) and kept[13_000 + length :] == data[13_000 + length :]


def test_image_resources_beyond_number():
    resource = b"8BIM" + struct.pack(">HHI", 2000, 0, 1) + b"x\0"
    with cpu_time_below(1):
        assert split_resources(resource * 200_000) == (None, resource * 200_000)


def test_profile_that_a_png_writer_passes_on_in_pieces():
    written = []
    inserter = ChunkInserter(written.append, b"chunks")
    header, profile = SIGNATURE + chunk(b"IHDR", bytes(13)), chunk(b"iCCP", bytes(64_000_000))
    with cpu_time_below(1):
        for at in range(0, len(profile), 8192):
            inserter((b"" if at else header) + profile[at : at + 8192])
        inserter(chunk(b"IDAT", b""))
    assert b"".join(written) == header + b"chunks" + profile + chunk(b"IDAT", b"")


def test_avif_of_many_properties(tmp_path):
    def box(kind, content):
        return struct.pack(">I4s", 8 + len(content), kind) + content

    properties = box(b"free", b"a" * 15_000_000) + box(b"av1C", b"\0\0\x10\0") * 19_000
    meta = box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", properties)))
    (tmp_path / "a.avif").write_bytes(meta)
    with cpu_time_below(1):
        assert read_properties(tmp_path / "a.avif").monochrome


def test_xmp_wrappers_without_an_end():
    with cpu_time_below(0.5), pytest.raises(ValueError, match="malformed XMP"):
        Xmp(b"<?xpacket" * 50_000)
    wrapped = b'<?xpacket begin="" id="a"?>' + XMP % b"<a/>" + b'<?xpacket end="w"?>'
    assert Xmp(wrapped).serialize() == Xmp(XMP % b"<a/>").serialize()


@pytest.mark.parametrize(
    "body",
    [
        b"<a/>" * 100_000,
        b'<a b="c"/>' * 50_000,
        b"<a>" + b"<!---->" * 100_000 + b"</a>",
        b"<a>" + b"<?b?>" * 100_000 + b"</a>",
        b"<a>" + b"<![CDATA[]]>" * 100_000 + b"</a>",
        b"<a>" + b"b" * (1 << 23) + b"</a>",
    ],
    ids=["elements", "attributes", "comments", "instructions", "sections", "bytes"],
)
def test_xmp_that_is_too_large_is_named_and_the_edit_recorded(tmp_path, caplog, body):
    path = png_with_xmp(tmp_path / "a.png", XMP % body)
    with cpu_time_below(1):
        out = retouched(path, tmp_path / "out.png")
    assert "not carried over from a.png: XMP (too large)" in caplog.text
    assert events(out) == ["test 1"]


def test_xmp_of_a_photograph_with_many_brush_strokes_is_kept(tmp_path, caplog):
    strokes = b"".join(b"<rdf:li>d %.6f %.6f</rdf:li>" % (x / 3e4, x / 7e4) for x in range(30_000))
    body = b'<rdf:Description xmlns:m="mask/"><m:Dabs><rdf:Seq>%s</rdf:Seq></m:Dabs></rdf:Description>' % strokes
    out = retouched(png_with_xmp(tmp_path / "a.png", XMP % body), tmp_path / "out.png")
    assert not caplog.text and events(out) == ["test 1"]
    with Image.open(out) as image:
        assert image.info["xmp"].count(b"<rdf:li>d ") == 30_000


@pytest.mark.parametrize(
    "body",
    [
        b"<rdf:Description " + b" ".join(b'a%d="b"' % number for number in range(20_000)) + b"/>",
        b'<m:MicroVideo xmlns:m="http://ns.google.com/photos/1.0/camera/"/>' * 45_000,
    ],
    ids=["attributes", "removed"],
)
def test_xmp_just_below_the_limit_is_updated_in_time(body):
    xmp = Xmp(XMP % body)
    with cpu_time_below(2):
        xmp.update()
        xmp.record(EDIT)
        packet = xmp.serialize()
    assert b"MicroVideo" not in packet and b"test 1" in packet


def test_entities_are_refused_in_any_encoding():
    for encoding in ("utf-8", "utf-16"):
        text = '<!DOCTYPE a [<!ENTITY b "c">]>' + (XMP % b"<a>&b;</a>").decode()
        with pytest.raises(ValueError, match="document type declaration"):
            Xmp(text.encode(encoding))


@pytest.mark.parametrize("side", [8, 4000])
def test_gain_map_larger_than_its_turned_photo_is_left_out_undecoded(tmp_path, caplog, side):
    exif = Image.Exif()
    exif[274] = 6
    base, gains = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(base, "JPEG", exif=exif)
    Image.fromarray(np.zeros((side, side), np.uint8)).save(gains, "JPEG")
    announced = XMP % b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>'
    xmp = segment(APP1, b"http://ns.adobe.com/xap/1.0/\0" + announced)
    (tmp_path / "a.jpg").write_bytes(base.getvalue() + gains.getvalue()[:2] + xmp + gains.getvalue()[2:])
    with cpu_time_below(0.5):
        out = retouched(tmp_path / "a.jpg", tmp_path / "out.jpg")
    kept = read_segments(out).gain_map
    if side > 32:
        assert "not carried over from a.jpg: gain map (larger than the photo)" in caplog.text and kept is None
    else:
        assert kept is not None and not caplog.text


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_further_xmp_is_named(tmp_path, caplog, suffix):
    path = tmp_path / f"a{suffix}"
    packets = [XMP % (b'<rdf:Description xmlns:a="a/" a:b="%s"/>' % name) for name in (b"first", b"second")]
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path, **({"xmp": packets[0]} if suffix == ".webp" else {}))
    data = path.read_bytes()
    if suffix == ".jpg":
        segments = [segment(APP1, b"http://ns.adobe.com/xap/1.0/\0" + packet) for packet in packets]
        path.write_bytes(data[:2] + b"".join(segments) + data[2:])
    elif suffix == ".png":
        chunks = [chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet) for packet in packets]
        path.write_bytes(data[:33] + b"".join(chunks) + data[33:])
    else:
        second = b"XMP " + struct.pack("<I", len(packets[1])) + packets[1] + b"\0" * (len(packets[1]) % 2)
        path.write_bytes(b"RIFF" + struct.pack("<I", len(data) + len(second) - 8) + data[8:] + second)
    out = retouched(path, tmp_path / f"out{suffix}")
    assert f"not carried over from a{suffix}: further XMP" in caplog.text
    content = out.read_bytes()
    assert (b"first" in content) != (b"second" in content)
    assert suffix != ".jpg" or b"first" in content


def test_further_exif_of_a_png_is_named(tmp_path, caplog):
    path, data = tmp_path / "a.png", io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(data, "PNG")
    blocks = [
        chunk(b"eXIf", exif_block([(271, 2, 4, int.from_bytes(name, "little"))])) for name in (b"one\0", b"two\0")
    ]
    path.write_bytes(data.getvalue()[:33] + b"".join(blocks) + data.getvalue()[33:])
    out = retouched(path, tmp_path / "out.png")
    assert "not carried over from a.png: further EXIF" in caplog.text
    with Image.open(out) as image:
        assert image.getexif()[271] == "one"


def test_texts_of_a_png_that_inflate_beyond_64_mb_are_refused(tmp_path):
    """libvips would inflate them whenever it opens the file."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 25), 9))
    path = png_with_xmp(tmp_path / "a.png", b"")
    data = path.read_bytes()
    path.write_bytes(data[:33] + 30 * text + data[33:])
    with (
        cpu_time_below(1),
        pytest.raises(ValueError, match=r"a\.png: .* its text and colour profile have more than 64 MB"),
    ):
        Photo.open(path)
