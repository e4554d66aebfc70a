import hashlib
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from retouch_common.faces.alignment import FaceSquare
from retouch_common.faces.pasting import AlignedLayer
from retouch_common.inference.photos import PhotoOptions, write_photo
from retouch_common.photo.io import Photo
from retouch_common.photo.pasting import pasted_rows
from retouch_common.photo.sources import ArraySource
from retouch_common.photo.xmp import Edit, Xmp

from ..conftest import smooth_pixels

RDF, IPTC_EXT = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}", "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
MM, EVENT = "{http://ns.adobe.com/xap/1.0/mm/}", "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
CAPTURE = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
 xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#" xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 {attribute}>{element}
<xmpMM:History><rdf:Seq><rdf:li rdf:parseType="Resource"><stEvt:action>created</stEvt:action></rdf:li></rdf:Seq>
</xmpMM:History></rdf:Description></rdf:RDF></x:xmpmeta>"""
DIGITAL = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
WEIGHTS = hashlib.sha256(b"weights").hexdigest()


def retouched(tmp_path, suffix, *, xmp=None, options=None):
    path = tmp_path / f"a{suffix}"
    saving = {"tiffinfo": {700: (xmp or "").encode()}} if suffix == ".tif" else {"xmp": (xmp or "").encode()}
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(path, **(saving if xmp else {}))
    photo = Photo.open(path)
    out = tmp_path / f"out{suffix}"
    write_photo(photo, out, iter([photo.read() // 2]), options or PhotoOptions(), [], weights=WEIGHTS)
    return out


def packet(path):
    with Image.open(path) as image:
        return ElementTree.fromstring(image.info["xmp"].rstrip(b"\0"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize(
    "xmp",
    [
        None,
        CAPTURE.format(attribute=f'e:DigitalSourceType="{DIGITAL}"', element=""),
        CAPTURE.format(attribute="", element=f"<e:DigitalSourceType>{DIGITAL}</e:DigitalSourceType>"),
    ],
)
def test_edited_photo_says_so(tmp_path, suffix, xmp):
    if xmp and suffix == ".png":
        pytest.skip("Pillow writes no XMP into PNG")
    root = packet(retouched(tmp_path, suffix, xmp=xmp))
    assert [entry.text for entry in root.iter(f"{IPTC_EXT}DigitalSourceType")] == [COMPOSITE]
    assert not [entry for entry in root.iter() if entry.get(f"{IPTC_EXT}DigitalSourceType")]
    (history,) = root.iter(f"{MM}History")
    events = [{child.tag.removeprefix(EVENT): child.text for child in item} for item in history.iter(f"{RDF}li")]
    assert [event["action"] for event in events] == (["created", "edited"] if xmp else ["edited"])
    assert events[-1]["softwareAgent"].startswith("retouch_common ")
    assert f"weights sha256:{WEIGHTS}" in events[-1]["parameters"]
    assert events[-1]["when"].endswith("+00:00")


@pytest.mark.parametrize("padding", [0, 70_000])  # a packet of more than 65,502 bytes does not fit into JPEG
@pytest.mark.parametrize(
    ("attribute", "element"),
    [
        (f'e:DigitalSourceType="{GENERATED}"', ""),
        ("", f"<e:DigitalSourceType>\n{GENERATED}\n</e:DigitalSourceType>"),
        ("", f'<e:DigitalSourceType rdf:resource="{GENERATED}"/>'),
    ],
)
def test_a_generated_photo_remains_one(tmp_path, attribute, element, padding):
    xmp = CAPTURE.format(attribute=attribute, element=element + f"<e:Event>{'x' * padding}</e:Event>")
    path = tmp_path / "a.tif"
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(path, tiffinfo={700: xmp.encode()})
    photo = Photo.open(path)
    write_photo(photo, tmp_path / "out.jpg", iter([photo.read() // 2]), PhotoOptions(), [])
    root = packet(tmp_path / "out.jpg")
    assert [entry.text for entry in root.iter(f"{IPTC_EXT}DigitalSourceType")] == [GENERATED]
    assert not [entry for entry in root.iter() if entry.get(f"{IPTC_EXT}DigitalSourceType")]
    assert (len(list(root.iter(f"{IPTC_EXT}Event"))) == 1) == (not padding)


def test_provenance_can_be_left_out(tmp_path):
    out = retouched(tmp_path, ".jpg", options=PhotoOptions(provenance=False))
    with Image.open(out) as image:
        assert "xmp" not in image.info


def test_unchanged_photo_is_copied_and_remains_a_capture(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(path, quality=70)
    write_photo(Photo.open(path), tmp_path / "out.jpg", None, PhotoOptions(), [])
    assert (tmp_path / "out.jpg").read_bytes() == path.read_bytes()
    write_photo(Photo.open(path), tmp_path / "out.png", None, PhotoOptions(), [])
    with Image.open(tmp_path / "out.png") as image, Image.open(path) as before:
        assert "xmp" not in image.info
        assert np.abs(np.asarray(image).astype(int) - np.asarray(before)).max() <= 2
    write_photo(Photo.open(path), path, None, PhotoOptions(overwrite=True), [])
    assert (tmp_path / "out.jpg").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("measure", [False, True])
@pytest.mark.parametrize(("level", "protected"), [(0.0, False), (0.3, False), (40.0, True)])
def test_photo_that_turns_out_unchanged_is_copied(tmp_path, level, protected, measure):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(path, quality=70)
    photo, options = Photo.open(path), PhotoOptions(measure=measure)
    layer = AlignedLayer(FaceSquare((40.0, 30.0), 30.0), np.full((8, 8, 3), level, np.float32), 60, 80)
    protect = ArraySource(np.full((60, 80, 3), 255 * protected, np.uint8))
    changed = write_photo(photo, tmp_path / "out.jpg", pasted_rows(photo, [layer], protect=protect), options, [])
    assert (tmp_path / "out.jpg").read_bytes() == path.read_bytes()
    assert changed == (0 if measure else None) and len(list(tmp_path.iterdir())) == 2


def test_a_history_that_is_an_attribute_is_none():
    xmp = Xmp(CAPTURE.format(attribute='xmpMM:History=""', element="").replace("<xmpMM:History>", "<xmpMM:Other>")
              .replace("</xmpMM:History>", "</xmpMM:Other>").encode())  # fmt: skip
    xmp.record(Edit(software="a", version="1"))
    assert b"edited" in xmp.serialize()


def test_second_edit_adds_an_entry_and_text_is_escaped():
    xmp = Xmp()
    for number in range(2):
        xmp.record(Edit(software="a<b>&", version=str(number), settings={"strength": 0.5}))
        xmp = Xmp(xmp.serialize())
    root = ElementTree.fromstring(xmp.serialize())
    assert [entry.text for entry in root.iter(f"{EVENT}softwareAgent")] == ["a<b>& 0", "a<b>& 1"]
    assert [entry.text for entry in root.iter(f"{EVENT}parameters")] == ["strength=0.5"] * 2
    assert len(list(root.iter(f"{IPTC_EXT}DigitalSourceType"))) == 1


def test_the_history_of_an_ingredient_is_left_alone():
    """A composite lists what it was made of, with properties of their own, in ``xmpMM:Pantry``."""
    own = CAPTURE.format(attribute=f'e:DigitalSourceType="{DIGITAL}"', element="")
    pantry = own[own.index("<xmpMM:History>") : own.index("</rdf:Description>")]
    ingredient = f'<rdf:li><rdf:Description e:DigitalSourceType="{DIGITAL}">{pantry}</rdf:Description></rdf:li>'
    text = own.replace(pantry, f"<xmpMM:Pantry><rdf:Bag>{ingredient}</rdf:Bag></xmpMM:Pantry>")
    xmp = Xmp(text.encode())
    xmp.record(Edit(software="a", version="1"))
    root = ElementTree.fromstring(xmp.serialize())
    (kept,) = root.iter(f"{MM}Pantry")
    assert [action.text for action in kept.iter(f"{EVENT}action")] == ["created"]
    assert [node.get(f"{IPTC_EXT}DigitalSourceType") for node in kept.iter(f"{RDF}Description")] == [DIGITAL]
    assert [action.text for action in root.iter(f"{EVENT}action")].count("edited") == 1
    assert [node.text for node in root.iter(f"{IPTC_EXT}DigitalSourceType")] == [COMPOSITE]
