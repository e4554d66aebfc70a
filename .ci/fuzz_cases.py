"""Cases of the fuzzer: photographs of every format, drawn, and mutations of their files.

HEIC, JPEG XL and camera raw (DNG) are among them where their extras are installed.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms
from retouch_common.testing.photos import make_dng

HEIGHT, WIDTH = 96, 80
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
GAIN_MAP_XMP = XMP.replace(
    b"/></x", b'><rdf:Description xmlns:g="http://ns.adobe.com/hdr-gain-map/1.0/" g:Version="1.0"/></rdf:RDF></x'
)
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
OUTPUTS = (".tif", ".png", ".jpg", ".webp", ".avif")
INTERESTING = (0, 1, 2, 3, 4, 7, 8, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True)
class Case:
    """A mutated file, the sound one, and the suffix of the output."""

    number: int
    kind: str
    data: bytes
    sound: bytes
    output: str = ".tif"

    @property
    def name(self) -> str:
        """File name."""
        suffix = {"jpeg": ".jpg", "tiff": ".tif"}.get(family := self.kind.split("-")[0], f".{family}")
        return f"{self.number}-{self.kind}{suffix}"


def outputs(kind: str) -> tuple[str, ...]:
    """Return the suffixes of the formats that hold photographs of a kind."""
    if kind.endswith("cmyk"):
        return ".tif", ".jpg"
    if kind == "avif-12":
        return ".tif", ".png", ".avif"
    return OUTPUTS[:2] if kind.endswith(("10", "16")) or kind == "dng" else OUTPUTS


def drawn(dtype: type = np.uint8) -> np.ndarray:
    """Return slopes, edges and a little noise, (96, 80, 3)."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH][..., None]
    values = 0.5 + 0.35 * np.sin(x / 17 + y / 23 + generator.uniform(0, 6, 3))
    values = values + 0.1 * np.sign(np.sin(x / 7) * np.sin(y / 11)) + generator.normal(0, 0.02, values.shape)
    return np.clip(np.rint(values * np.iinfo(dtype).max), 0, np.iinfo(dtype).max).astype(dtype)


def sound_files() -> dict[str, bytes]:
    """Return files by kind, the format first; to be called in a child, because libvips starts threads."""
    import pyvips

    pixels, deep = drawn(), drawn(np.uint16)
    picture = pyvips.Image.new_from_array(pixels).copy(interpretation="srgb")
    picture16 = pyvips.Image.new_from_array(deep).copy(interpretation="rgb16")
    inks = pyvips.Image.new_from_array(np.dstack([255 - pixels, np.full(pixels.shape[:2], 40, np.uint8)]))
    inks = inks.copy(interpretation="cmyk")
    grey = picture.extract_band(1).copy(interpretation="b-w")
    tiles = {"tile": True, "tile_width": 32, "tile_height": 32}
    jpeg = {"Q": 90, "subsample_mode": "off"}
    files = {
        "jpeg-baseline": picture.jpegsave_buffer(**jpeg),
        "jpeg-progressive": picture.jpegsave_buffer(Q=85, subsample_mode="on", interlace=True),
        "jpeg-restarts": picture.jpegsave_buffer(Q=85, subsample_mode="on", restart_interval=4),
        "jpeg-cmyk": inks.jpegsave_buffer(**jpeg),
        "jpeg-grey": grey.jpegsave_buffer(Q=90),
        "png-8": picture.pngsave_buffer(),
        "png-16": picture16.pngsave_buffer(),
        "png-grey16": picture16.extract_band(0).copy(interpretation="grey16").pngsave_buffer(),
        "png-interlaced": picture.pngsave_buffer(interlace=True),
        "png-palette": picture.pngsave_buffer(palette=True),
        "tiff-strips": picture.tiffsave_buffer(),
        "tiff-strips-deflate": picture.tiffsave_buffer(compression="deflate", predictor="horizontal"),
        "tiff-strips-lzw": picture.tiffsave_buffer(compression="lzw", predictor="none"),
        "tiff-tiles": picture.tiffsave_buffer(**tiles),
        "tiff-tiles-lzw": picture.tiffsave_buffer(compression="lzw", predictor="none", **tiles),
        "tiff-tiles-jpeg": picture.tiffsave_buffer(compression="jpeg", Q=90, **tiles),
        "tiff-tiles-deflate16": picture16.tiffsave_buffer(compression="deflate", predictor="none", **tiles),
        "tiff-big16": picture16.tiffsave_buffer(bigtiff=True),
        "tiff-big-deflate": picture.tiffsave_buffer(bigtiff=True, compression="deflate", predictor="none"),
        "tiff-cmyk": inks.tiffsave_buffer(compression="deflate", predictor="none"),
        "webp-lossy": picture.webpsave_buffer(Q=90),
        "webp-lossless": picture.webpsave_buffer(lossless=True),
        "avif-8": picture.heifsave_buffer(compression="av1", Q=90, effort=1, subsample_mode="off"),
        "avif-12": picture16.heifsave_buffer(compression="av1", Q=90, effort=1, bitdepth=12),
    }
    if pyvips.type_find("VipsOperation", "uhdrsave"):
        files["jpeg-gainmap"] = (picture.colourspace("scrgb") * 2.5).copy(interpretation="scrgb").uhdrsave_buffer(Q=90)
    files |= _with_metadata(pixels)
    for made in (_heic_files, _jpegxl_files, _raw_files):
        with contextlib.suppress(ImportError):  # the extra is not installed
            files |= made(pixels, deep)
    return files


def _heic_files(pixels: np.ndarray, deep: np.ndarray) -> dict[str, bytes]:
    import pillow_heif

    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    files = {}
    for kind, mode, levels, info in (
        ("heic-8", "RGB", pixels, {}),
        ("heic-10", "RGB;16", deep, {}),
        ("heic-metadata", "RGB", pixels, {"exif": exif.tobytes(), "xmp": XMP}),
    ):
        target, image = io.BytesIO(), pillow_heif.from_bytes(mode, (WIDTH, HEIGHT), levels.tobytes())
        image.info.update(info)
        image.save(target, quality=90, chroma=444)
        files[kind] = target.getvalue()
    return files


def _jpegxl_files(pixels: np.ndarray, deep: np.ndarray) -> dict[str, bytes]:
    import pillow_jxl

    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=90)
    encode = pillow_jxl.Encoder("RGB", lossless=True, use_container=True, num_threads=0)
    files = {"jxl-jpeg": encode(jpeg.getvalue(), WIDTH, HEIGHT, jpeg_encode=True)}
    for kind, levels, options in (
        ("jxl-8", pixels, {"quality": 90}),
        ("jxl-grey16", deep[..., 1], {"lossless": True, "xmp": XMP, "use_container": True}),
    ):
        target = io.BytesIO()
        Image.fromarray(levels).save(target, "JXL", num_threads=0, **options)
        files[kind] = target.getvalue()
    return files


def _raw_files(pixels: np.ndarray, deep: np.ndarray) -> dict[str, bytes]:
    """Return a DNG with a Bayer mosaic, where rawpy reads it."""
    import rawpy  # noqa: F401

    mosaic = deep[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = deep[::2, ::2, 0], deep[1::2, 1::2, 2]
    target = io.BytesIO()
    make_dng(target, mosaic)
    return {"dng": target.getvalue()}


def _with_metadata(pixels: np.ndarray) -> dict[str, bytes]:
    exif = Image.Exif()
    exif[271], exif[274] = "Maker", 6
    exif.get_ifd(0x8769).update({33434: 0.01, 37500: b"maker notes" * 9, 40962: WIDTH})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.5)})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:24] + bytes(12) + profile[36:]  # without the time at which it was made
    files = {}
    for name, options in (
        ("jpeg", {"xmp": XMP, "comment": b"comment"}),
        ("png", {}),
        ("tiff", {}),
        ("webp", {"xmp": XMP}),
    ):
        target = io.BytesIO()
        Image.fromarray(pixels).save(target, name, exif=exif, icc_profile=profile, **options)
        files[f"{name}-metadata"] = target.getvalue()
    return files


def parts(data: bytes, kind: str) -> list[tuple[int, int]]:
    """Return (begin, end) of the chunks, segments or boxes of a file; of others those of 64 bytes."""
    found, at = [], 0
    family = kind.split("-")[0]
    at = {"jpeg": 2, "png": 8, "webp": 12}.get(family, 0)
    while at + 8 <= len(data):
        if family == "jpeg":
            if data[at] != 0xFF or data[at + 1] == 0xDA:
                break
            length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        elif family == "png":
            length = 12 + int.from_bytes(data[at : at + 4], "big")
        elif family == "webp":
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            length = 8 + size + size % 2
        elif family in ("avif", "heic", "jxl"):
            length = int.from_bytes(data[at : at + 4], "big") or len(data)
        else:
            length = 64
        found.append((at, min(at + length, len(data))))
        at += length
    return found or [(0, len(data))]


def flip_bits(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Flip one to eight bits."""
    result = bytearray(data)
    for at in generator.integers(2, len(data), generator.integers(1, 9)):
        result[at] ^= 1 << generator.integers(8)
    return bytes(result)


def cut(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Cut the end off, half of the time as a JPEG with a new end marker."""
    rest = data[: generator.integers(2, len(data))]
    return rest + b"\xff\xd9" * int(kind.startswith("jpeg") and generator.random() < 0.5)


def zero(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Overwrite some bytes with zeros."""
    at, length = generator.integers(2, len(data)), generator.integers(1, 600)
    return data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]


def lose(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Leave some bytes out."""
    at = generator.integers(2, len(data))
    return data[:at] + data[at + generator.integers(1, 40) :]


def insert(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Insert random bytes."""
    at = generator.integers(2, len(data))
    return data[:at] + generator.bytes(generator.integers(1, 200)) + data[at:]


def swap_parts(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Swap two parts."""
    found = parts(data, kind)
    (a, b), (c, d) = sorted(found[i] for i in generator.integers(0, len(found), 2))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:] if b <= c else data


def repeat_part(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Insert a copy of a part elsewhere."""
    found = parts(data, kind)
    begin, end = found[generator.integers(len(found))]
    at = found[generator.integers(len(found))][0]
    return data[:at] + data[begin:end] * int(generator.integers(1, 4)) + data[at:]


def set_field(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Set a field of 1, 2 or 4 bytes in a header, or in a TIFF's directory, to an extreme value."""
    begin = 0
    if kind.startswith(("tiff", "dng")):
        begin = int.from_bytes(data[8:16] if data[2] == 43 else data[4:8], "little") % len(data)
    at = begin + int(generator.integers(2, max(3, min(400, len(data) - begin - 4))))
    size = int(generator.choice([1, 2, 4]))
    value = int(generator.choice(INTERESTING)) % (1 << (8 * size))
    return data[:at] + value.to_bytes(size, "little" if generator.random() < 0.5 else "big") + data[at + size :]


def add_metadata(data: bytes, kind: str, generator: np.random.Generator) -> bytes:
    """Add EXIF, XMP, image resources or, to a JPEG, a gain map of absurd size."""
    family = kind.split("-")[0]
    what = str(generator.choice(["exif", "xmp", "resources", "gain map"]))
    size = int(generator.choice([60_000, 1_000_000]))
    content = _bloated(what, min(size, 60_000) if family == "jpeg" else size, generator)
    if family == "jpeg" and what == "gain map":
        at = data.find(b"\xff\xc0")
        huge = data[: at + 5] + struct.pack(">HH", 60_000, 60_000) + data[at + 9 :] if at > 0 else data
        return data + huge[:2] + _segment(0xE1, _XMP_MARK + GAIN_MAP_XMP) + huge[2:]
    if family == "jpeg":
        marker, mark = {"exif": (0xE1, b"Exif\0\0"), "xmp": (0xE1, _XMP_MARK)}.get(what, (0xED, b"Photoshop 3.0\0"))
        return data[:2] + _segment(marker, mark + content) + data[2:]
    if family == "png":
        text = f"\n{what}\n{len(content):8d}\n{content.hex()}\n".encode()
        name = {"exif": b"exif", "resources": b"iptc"}.get(what, b"xmp")
        kind_of_chunk, body = b"zTXt", b"Raw profile type " + name + b"\0\0" + zlib.compress(text)
        if what == "xmp":
            kind_of_chunk, body = b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(content)
        return data[:33] + _chunk(kind_of_chunk, body) + data[33:]
    if family == "webp":
        name = b"XMP " if what == "xmp" else b"EXIF"
        return data + name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    if family == "jxl":
        name = {"exif": b"Exif", "xmp": b"xml "}.get(what, b"jumb")
        return data + struct.pack(">I4s", 8 + len(content), name) + content
    return _with_tag(data, 700 if what == "xmp" else 34377, content) if data[:4] == b"II*\0" else data


def _bloated(what: str, size: int, generator: np.random.Generator) -> bytes:
    """Return metadata of about a number of bytes: many small parts, or starts of something that does not end."""
    head = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 274, 3, 1, 6, 0)
    if what == "exif":
        return head + b"\xff\xd8\xff\xe0" * (size // 4)
    if what == "xmp":
        part = [b"<a/>", b'<a b="c"/>', b"<?xpacket", b"<!---->"][generator.integers(4)]
        return XMP.replace(b"/></x", b">" + part * (size // len(part)) + b"</rdf:RDF></x")
    return (b"8BIM" + struct.pack(">HHI", 2000, 0, 0)) * (size // 12)


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _with_tag(data: bytes, tag: int, content: bytes) -> bytes:
    """Return a little-endian TIFF with a tag of bytes in its first directory; unchanged if that is damaged."""
    (at,) = struct.unpack_from("<I", data, 4)
    if at + 2 > len(data):
        return data
    (count,) = struct.unpack_from("<H", data, at)
    records = [data[at + 2 + 12 * index :][:12] for index in range(count)]
    end = len(data) + len(data) % 2
    records = sorted([*records, struct.pack("<HHII", tag, 7, len(content), end)], key=lambda record: record[1::-1])
    directory = struct.pack("<H", count + 1) + b"".join(records) + bytes(4)
    content += b"\0" * (len(content) % 2)
    head = data[:4] + struct.pack("<I", end + len(content)) + data[8:]
    return head.ljust(end, b"\0") + content + directory


MUTATIONS = (flip_bits, cut, zero, lose, insert, swap_parts, repeat_part, set_field, set_field, add_metadata)


def with_png_checksums(data: bytes) -> bytes:
    """Return a PNG whose chunks have the right checksums, so that damage gets past them."""
    result = bytearray(data)
    for begin, end in parts(data, "png"):
        if end - begin >= 12:
            result[end - 4 : end] = struct.pack(">I", zlib.crc32(result[begin + 4 : end - 4]))
    return bytes(result)


def make_case(files: dict[str, bytes], seed: int, number: int) -> Case:
    """Return a case; each kind takes turns with the formats of the output."""
    generator = np.random.default_rng([seed, number])
    turn, index = divmod(number, len(files))
    kind = sorted(files)[index]
    data = files[kind]
    for _ in range(1 + int(generator.random() < 0.2)):
        data = MUTATIONS[generator.integers(len(MUTATIONS))](data, kind, generator)
    if kind.startswith("png") and generator.random() < 0.5:
        data = with_png_checksums(data)
    suffixes = outputs(kind)
    return Case(number, kind, data, files[kind], suffixes[(turn + index) % len(suffixes)])
