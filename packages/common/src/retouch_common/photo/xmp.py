"""XMP packets: brought up to date for a retouched photo, with the provenance of the edit.

Reference: XMP Specification parts 1 and 2 (ISO 16684); IPTC Photo Metadata Standard 2023.1, "Digital Source Type".
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.dom import minidom
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_MM = "http://ns.adobe.com/xap/1.0/mm/"
_EVENT = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SOURCE_TYPE = _SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"
_GENERATED = "trainedAlgorithmicMedia"
_CONTAINER, _ITEM = "http://ns.google.com/photos/1.0/container/", "http://ns.google.com/photos/1.0/container/item/"
_GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_DEPTH = ("http://ns.google.com/photos/1.0/depthmap/", "http://ns.google.com/photos/1.0/image/")
_REMOVED = (
    (_XMP, "Thumbnails"),
    ("http://ns.adobe.com/xap/1.0/t/pg/", "Thumbnails"),
    (_NOTE, "HasExtendedXMP"),
    (_CONTAINER, "*"),
    (_GAIN_MAP, "*"),
    *((namespace, "*") for namespace in _DEPTH),
    *((_CAMERA, name) for name in ("MotionPhoto", "MotionPhotoVersion", "MotionPhotoPresentationTimestampUs")),
    *((_CAMERA, name) for name in ("MicroVideo", "MicroVideoVersion", "MicroVideoOffset")),
)
_MAX_DEPTH = 100  # elements inside each other; minidom is recursive
# Hundreds of brush strokes of a raw converter are a few megabytes and tens of thousands of nodes.
_MAX_BYTES, _MAX_NODES = 1 << 23, 100_000
_EMPTY = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>'
_PACKET = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{}<?xpacket end="w"?>'


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What was done to a photo, for its history.

    Attributes:
        software: Name of the program.
        version: Its version.
        weights: SHA-256 of the network's weights, None if unknown.
        settings: Settings by name.
        when: Time of the edit in UTC, as ISO 8601; None for now.
    """

    software: str
    version: str
    weights: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    when: str | None = None

    @property
    def parameters(self) -> str:
        """Settings and weights in one line."""
        parts = [f"{name}={value}" for name, value in self.settings.items()]
        return "; ".join([*parts, *([f"weights sha256:{self.weights}"] if self.weights else [])])


class XmpSizeError(ValueError):
    """An XMP packet has more bytes, or more elements and attributes, than a photograph's."""


class Xmp:
    """An XMP packet; an empty one without data.

    Raises:
        XmpSizeError: If it has more than 8 MiB, or more than 100,000 elements, attributes, comments and the like.
        ValueError: If it is malformed, deeply nested, or declares entities.
    """

    def __init__(self, packet: bytes | None = None) -> None:
        text = _EMPTY.encode() if packet is None else bytes(packet).rstrip(b"\0 \n\r\t")
        if len(text) > _MAX_BYTES:
            raise XmpSizeError(f"XMP of more than {_MAX_BYTES} bytes")
        text = _without_wrapper(text).strip(b"\0 \n\r\t").removeprefix(b"\xef\xbb\xbf")
        try:
            _check_structure(text)
            self._document = minidom.parseString(text)
        except XmpSizeError:
            raise
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise ValueError(f"malformed XMP: {error}") from error
        found = self._document.getElementsByTagNameNS(_RDF, "RDF")
        if not found:
            raise ValueError("XMP without RDF")
        self._root: Any = self._document.documentElement
        self._rdf = found[0]

    @property
    def gain_map(self) -> bool:
        """Whether it announces a gain map."""
        return any(True for _ in self._properties((_GAIN_MAP, "*")))

    @property
    def depth_map(self) -> bool:
        """Whether it describes a depth map."""
        return any(True for _ in self._properties(*((namespace, "*") for namespace in _DEPTH)))

    @property
    def generated(self) -> bool:
        """Whether its digital source type says that a trained network made the whole photo."""
        return any(_text(node).rpartition("/")[2] == _GENERATED for node in self._source_types())

    @property
    def empty(self) -> bool:
        """Whether it states nothing."""
        return not any(True for _ in _elements(self._rdf))

    def update(self) -> None:
        """Set the orientation upright, and remove previews and what refers to data that are not in this packet."""
        for node in list(self._properties((_TIFF, "Orientation"))):
            self._set_value(node, "1")
        _remove(self._properties(*_REMOVED))

    def remove_gps(self) -> None:
        """Remove coordinates: all properties whose name starts with "GPS"."""
        nodes = self._properties(("*", "*"))
        _remove(node for node in nodes if node.localName.lower().startswith("gps"))

    def announce_gain_map(self, length: int) -> None:
        """Announce a gain map, a JPEG image of ``length`` bytes that follows the photo."""
        about = self._description({"hdrgm": _GAIN_MAP, "Container": _CONTAINER, "Item": _ITEM})
        about.setAttributeNS(_GAIN_MAP, "hdrgm:Version", "1.0")
        items = self._element(self._element(about, "Container:Directory", _CONTAINER), "rdf:Seq", _RDF)
        for attributes in ({"Semantic": "Primary"}, {"Semantic": "GainMap", "Length": str(length)}):
            entry = self._element(items, "rdf:li", _RDF)
            entry.setAttributeNS(_RDF, "rdf:parseType", "Resource")
            item = self._element(entry, "Container:Item", _CONTAINER)
            for name, value in {**attributes, "Mime": "image/jpeg"}.items():
                item.setAttributeNS(_ITEM, f"Item:{name}", value)

    def record(self, edit: Edit, *, generated: bool = False) -> None:
        """Add an edit to the history, and set the digital source type; a ``generated`` photo remains one."""
        _remove(self._source_types())
        about = self._description({"Iptc4xmpExt": _IPTC_EXTENSION, "xmpMM": _MM})
        source_type = _SOURCE_TYPES + _GENERATED if generated else SOURCE_TYPE
        self._element(about, "Iptc4xmpExt:DigitalSourceType", _IPTC_EXTENSION, source_type)
        found = self._document.getElementsByTagNameNS(_MM, "History")
        history = [node for node in found if self._is_of_photo(node)]
        events = history[0].getElementsByTagNameNS(_RDF, "Seq") if history else []
        if not events:
            events = [self._element(self._element(about, "xmpMM:History", _MM), "rdf:Seq", _RDF)]
        event = self._element(events[0], "rdf:li", _RDF)
        event.setAttribute("xmlns:rdf", _RDF)
        event.setAttribute("xmlns:stEvt", _EVENT)
        event.setAttributeNS(_RDF, "rdf:parseType", "Resource")
        when = edit.when or datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        for name, value in (
            ("action", "edited"),
            ("softwareAgent", f"{edit.software} {edit.version}"),
            ("when", when),
            ("parameters", edit.parameters),
        ):
            self._element(event, f"stEvt:{name}", _EVENT, value)

    def serialize(self) -> bytes:
        """Return the packet as UTF-8."""
        return _PACKET.format("".join(_serialized(self._root))).encode()

    def _element(self, parent: minidom.Element, name: str, namespace: str, text: str | None = None) -> minidom.Element:
        element: minidom.Element = self._document.createElementNS(namespace, name)
        if text is not None:
            element.appendChild(self._document.createTextNode(text))
        parent.appendChild(element)
        return element

    def _description(self, namespaces: Mapping[str, str]) -> minidom.Element:
        """Add an rdf:Description of the photo that declares namespaces by prefix."""
        about = self._element(self._rdf, "rdf:Description", _RDF)
        for prefix, namespace in {"rdf": _RDF, **namespaces}.items():
            about.setAttribute(f"xmlns:{prefix}", namespace)
        about.setAttributeNS(_RDF, "rdf:about", self._about())
        return about

    def _about(self) -> str:
        for node in self._rdf.getElementsByTagNameNS(_RDF, "Description"):
            return str(node.getAttributeNS(_RDF, "about"))
        return ""

    def _properties(self, *names: tuple[str, str]) -> Iterator[Any]:
        """Yield the elements and attributes of properties, given as (namespace, name); "*" stands for all."""
        wanted = set(names)
        for element in _elements(self._rdf):
            for node in (element, *(element.attributes.values() if element.hasAttributes() else ())):
                space, name = node.namespaceURI, node.localName
                if not wanted.isdisjoint(((space, name), (space, "*"), ("*", "*"))):
                    yield node

    def _source_types(self) -> list[Any]:
        """Return the digital source types of the photo."""
        return [*filter(self._is_of_photo, self._properties((_IPTC_EXTENSION, "DigitalSourceType")))]

    def _is_of_photo(self, node: Any) -> bool:
        """Whether a property is the photo's and not, e.g., an ingredient's (``xmpMM:Pantry``)."""
        description: Any = node.ownerElement if isinstance(node, minidom.Attr) else node.parentNode
        return description.parentNode is self._rdf

    def _set_value(self, node: Any, value: str) -> None:
        if isinstance(node, minidom.Attr):
            node.value = value
            return
        while node.firstChild:
            node.removeChild(node.firstChild)
        node.appendChild(self._document.createTextNode(value))


def _text(node: Any) -> str:
    """Return the value of a property, which may be an attribute, text, or a reference."""
    if isinstance(node, minidom.Attr):
        return str(node.value).strip()
    text = "".join(child.data for child in node.childNodes if child.nodeType == child.TEXT_NODE)
    return text.strip() or str(node.getAttributeNS(_RDF, "resource")).strip()


def _serialized(node: Any) -> Iterator[str]:
    """Yield the parts of an XML text that is read as this node; minidom's own loses line breaks and tabs."""
    if node.nodeType == node.TEXT_NODE:
        yield escape(node.data, {"\r": "&#13;"})
    elif node.nodeType != node.ELEMENT_NODE:
        yield node.toxml()
    else:
        yield f"<{node.tagName}"
        for attribute in node.attributes.values():
            yield f" {attribute.name}={quoteattr(attribute.value)}"
        yield ">"
        for child in node.childNodes:
            yield from _serialized(child)
        yield f"</{node.tagName}>"


def _elements(parent: minidom.Element) -> Iterator[minidom.Element]:
    """Yield the elements inside an element."""
    for child in parent.childNodes:
        if child.nodeType == child.ELEMENT_NODE:
            yield child
            yield from _elements(child)


def _remove(nodes: Iterable[Any]) -> None:
    """Remove elements and attributes."""
    elements: dict[int, set[int]] = {}
    parents = {}
    for node in list(nodes):
        if isinstance(node, minidom.Attr):
            if node.ownerElement is not None:
                node.ownerElement.removeAttributeNode(node)
        else:
            parents[id(node.parentNode)] = node.parentNode
            elements.setdefault(id(node.parentNode), set()).add(id(node))
    for key, parent in parents.items():
        kept = [child for child in parent.childNodes if id(child) not in elements[key]]
        parent.childNodes[:] = kept


def _without_wrapper(packet: bytes) -> bytes:
    """Return a packet without its processing instructions "xpacket"."""
    first, *others = packet.split(b"<?xpacket")
    return b"".join([first, *(part.partition(b"?>")[2] for part in others)])


def _check_structure(text: bytes) -> None:
    """Check an XML document before minidom, which needs a kilobyte for a node, builds it.

    Raises:
        XmpSizeError: If it has too many nodes.
        ValueError: If it is nested too deeply, or has a document type declaration.
        expat.ExpatError: If it is malformed.
    """
    depth = count = 0

    def add(*_: object) -> None:
        nonlocal count
        count += 1
        if count > _MAX_NODES:
            raise XmpSizeError(f"XMP of more than {_MAX_NODES} elements and attributes")

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        count += len(attributes)
        depth += 1
        add()
        if depth > _MAX_DEPTH:
            raise ValueError("too deeply nested")

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: object) -> None:
        raise ValueError("it has a document type declaration")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CommentHandler = parser.ProcessingInstructionHandler = parser.StartCdataSectionHandler = add
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(text, True)
