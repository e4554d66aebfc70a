"""Content credentials: signed C2PA manifests that say how a photo was edited.

They are written and read by c2pa-python (extra ``c2pa``). A manifest names the original as its parent, with the
original's own manifests, and an edit by a trained network of some regions. Nothing is asked of the network: it has no
time stamp, and revocation is not checked.

Reference: C2PA Technical Specification 2.2.
"""

from __future__ import annotations

import functools
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retouch_common.files import refuse_special, sha256
from retouch_common.photo.xmp import SOURCE_TYPE, Edit

if TYPE_CHECKING:
    import c2pa

CREDENTIALS = "content credentials (C2PA)"  # in messages
INSTALL = "pip install 'retouch-common[c2pa]'"
_SIGNED = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WebP": "image/webp",
    "AVIF": "image/avif",
}
_ORIGINALS = {**_SIGNED, "HEIC": "image/heic"}
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},  # it would show the photo before retouching
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}
_CREATED = {
    "action": "c2pa.created",
    "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation",
}
_TEST_MANIFEST = {
    "claim_generator_info": [{"name": "retouch_common"}],
    "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [_CREATED]}}],
}
_ORIGINAL = "original"  # refers to the ingredient within the manifest
_MAX_LENGTH, _MAX_ENTRIES = 300, 50  # characters and entries of a manifest that are reported
_NOT_LISTED = "signingCredential.untrusted"  # no list of trusted signers is consulted


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Signing certificate.

    Attributes:
        algorithm: C2PA's name of the signature algorithm.
        chain: Certificates in PEM, the signer's first.
        key: Private key in PEM (PKCS #8).
    """

    algorithm: str
    chain: bytes
    key: bytes


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What the content credentials of an output say, and who signs them.

    Attributes:
        certificate: The signer's.
        edit: What was done.
        regions: Parts (x, y, w, h) in pixels outside which nothing was changed; without any, the whole photo.
    """

    certificate: Certificate
    edit: Edit
    regions: Sequence[tuple[int, int, int, int]] = ()

    def add_to(self, file: Path, target: str, original: Path, source: str) -> None:
        """Add content credentials to a file, in place.

        Args:
            file: File of the edited photo.
            target: Name of its format.
            original: File of the photo before the edit.
            source: Name of the format of that.

        Raises:
            OSError: If it cannot be signed; the message does not name the file.
            ValueError: If the original's content credentials cannot be carried.
        """
        import c2pa

        signed = file.with_name(f"{file.name}.signed")
        builder = _builder(_manifest(self.edit, self.regions))
        ingredient = {
            "title": original.name.encode(errors="replace").decode(),
            "relationship": "parentOf",
            "label": _ORIGINAL,
            "description": f"SHA-256 {sha256(original)}",
        }
        try:
            with open(original, "rb") as stream:
                media_type = _ORIGINALS.get(source, "application/octet-stream")
                builder.add_ingredient_from_stream(ingredient, media_type, stream)
        except c2pa.C2paError as error:
            raise ValueError(f"{original}: its {CREDENTIALS} cannot be carried: {_line(error)}") from error
        try:
            with open(file, "rb") as unsigned, open(signed, "w+b") as stream:
                builder.sign(_signer(self.certificate), _SIGNED[target], unsigned, stream)
            shutil.copyfile(signed, file)  # not renamed: the file itself is locked
        except c2pa.C2paError as error:
            raise OSError(f"cannot be signed: {_line(error)}") from error
        finally:
            signed.unlink(missing_ok=True)


@functools.lru_cache(maxsize=1)
def load_certificate(path: Path) -> Certificate:
    """Read a certificate chain and its private key from one PEM file, and try them.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the extra is missing, or nothing can be signed with the certificate.
    """
    import pyvips

    try:
        import c2pa
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise ValueError(f"{path}: signing needs an extra: {INSTALL}") from error
    refuse_special(path)
    text = path.read_bytes()
    try:
        chain = x509.load_pem_x509_certificates(text)
    except ValueError as error:
        raise ValueError(f"{path}: holds no certificate in PEM; it needs a certificate chain and its key") from error
    try:
        key = serialization.load_pem_private_key(text, None)
    except TypeError as error:
        raise ValueError(f"{path}: its private key is encrypted; decrypt it with `openssl pkey`") from error
    except ValueError as error:
        raise ValueError(f"{path}: holds no private key in PEM; append that of the certificate") from error
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    certificate = Certificate(
        algorithm=_algorithm(key, path),
        chain=b"".join(entry.public_bytes(pem) for entry in chain),
        key=key.private_bytes(pem, pkcs8, serialization.NoEncryption()),
    )
    try:
        png = pyvips.Image.black(1, 1).pngsave_buffer()
        _builder(_TEST_MANIFEST).sign(_signer(certificate), "image/png", io.BytesIO(png), io.BytesIO())
    except c2pa.C2paError as error:
        raise ValueError(f"{path}: cannot be used to sign: {_line(error)}") from error
    return certificate


def refuse_credentials(path: Path) -> None:
    """Refuse a photo with content credentials, which a signed output carries whole, where metadata are to be left out.

    Raises:
        ValueError: If it has content credentials.
    """
    if read_credentials(path) is not None:
        raise ValueError(
            f"{path}: has {CREDENTIALS}, which --sign carries whole and --strip forbids; leave one of them out"
        )


def read_credentials(path: Path) -> dict[str, Any] | None:
    """Return what the content credentials of a file claim, as JSON values; None without any.

    Returns:
        "signature" is "valid" if file and manifest are as they were signed, else "invalid", with "problems" as C2PA
        codes; "manifests" are the claims, the latest first: who signed, with what program, which actions on which
        ingredients. Signers are not looked up in a list of trusted ones.

    Raises:
        ImportError: If the extra is missing.
        OSError: If the file cannot be read.
    """
    import c2pa

    try:
        with open(path, "rb") as stream, c2pa.Context.from_dict(_SETTINGS) as context:
            reader = c2pa.Reader.try_create(None, stream, context=context)
            if reader is None:
                return None
            with reader:
                store = json.loads(reader.json())
    except c2pa.C2paError as error:
        if isinstance(error, c2pa.C2paError.NotSupported):
            return None
        return {"signature": "invalid", "problems": [_line(error)], "manifests": []}
    active = store.get("active_manifest")
    manifests = sorted(_mapping(store.get("manifests")).items(), key=lambda entry: entry[0] != active)
    results = _mapping(_mapping(store.get("validation_results")).get("activeManifest"))
    problems = [entry.get("code") for entry in _mappings(results.get("failure"))]
    return {
        "signature": "invalid" if store.get("validation_state") == "Invalid" else "valid",
        "problems": [_short(code) for code in problems if code != _NOT_LISTED],
        "manifests": [_claims(_mapping(manifest)) for _, manifest in manifests[:_MAX_ENTRIES]],
    }


def _claims(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return what one manifest claims."""
    actions = [
        action
        for assertion in _mappings(manifest.get("assertions"))
        if str(assertion.get("label")).startswith("c2pa.actions")
        for action in _mappings(_mapping(assertion.get("data")).get("actions"))
    ]
    signer = _mapping(manifest.get("signature_info"))
    return {
        "signed_by": _short(signer.get("common_name")),
        "issuer": _short(signer.get("issuer")),
        "time": _short(signer.get("time")),
        "program": [_program(entry) for entry in _mappings(manifest.get("claim_generator_info"))],
        "actions": [_action(action) for action in actions[:_MAX_ENTRIES]],
        "ingredients": [_short(entry.get("title")) for entry in _mappings(manifest.get("ingredients"))],
    }


def _action(action: dict[str, Any]) -> dict[str, Any]:
    """Return what an action claims."""
    source_type = str(action.get("digitalSourceType") or "").rpartition("/")[2]
    parts = [part for change in _mappings(action.get("changes")) for part in _mappings(change.get("region"))]
    boxes = [_box(_mapping(part.get("shape"))) for part in parts[:_MAX_ENTRIES]]
    return {
        "action": _short(action.get("action")),
        "program": _program(action.get("softwareAgent")),
        "source_type": _short(source_type) if source_type else None,
        "description": _short(action.get("description")),
        "regions": [box for box in boxes if box is not None],
    }


def _box(shape: dict[str, Any]) -> list[float] | None:
    """Return a rectangle in pixels as x, y, w, h; None for other shapes."""
    origin = _mapping(shape.get("origin"))
    values = [origin.get("x"), origin.get("y"), shape.get("width"), shape.get("height")]
    if shape.get("type") != "rectangle" or shape.get("unit") != "pixel":
        return None
    numbers = [value for value in values if isinstance(value, (int, float))]
    return numbers if len(numbers) == 4 else None


def _program(entry: Any) -> str | None:
    if isinstance(entry, dict):
        return _short(" ".join(str(entry[name]) for name in ("name", "version") if entry.get(name)))
    return _short(entry)


def _mapping(value: Any) -> dict[str, Any]:
    """Return a JSON object, an empty one for other values: manifests are from anyone."""
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[dict[str, Any]]:
    """Return the first objects of a JSON array."""
    return [entry for entry in value if isinstance(entry, dict)][:_MAX_ENTRIES] if isinstance(value, list) else []


def _short(text: Any) -> str | None:
    return None if text is None else str(text)[:_MAX_LENGTH]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:_MAX_LENGTH]


def _manifest(edit: Edit, regions: Sequence[tuple[int, int, int, int]]) -> dict[str, Any]:
    """Return the definition of a manifest: the original was opened, and edited by a trained network."""
    agent = {"name": edit.software, **({"version": edit.version} if edit.version else {})}
    edited: dict[str, Any] = {
        "action": "c2pa.edited",
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": agent,
        "description": edit.parameters,
    }
    if regions:
        shapes = [
            {"type": "rectangle", "unit": "pixel", "origin": {"x": x, "y": y}, "width": w, "height": h, "inside": True}
            for x, y, w, h in regions
        ]
        edited["changes"] = [{"region": [{"type": "spatial", "shape": shape} for shape in shapes]}]
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [_ORIGINAL]}}
    return {
        "claim_generator_info": [agent],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [opened, edited]}}],
    }


def _builder(manifest: dict[str, Any]) -> c2pa.Builder:
    import c2pa

    return c2pa.Builder(manifest, context=c2pa.Context.from_dict(_SETTINGS))


def _signer(certificate: Certificate) -> c2pa.Signer:
    import c2pa

    info = c2pa.C2paSignerInfo(certificate.algorithm, certificate.chain, certificate.key, None)
    return c2pa.Signer.from_info(info)


def _algorithm(key: Any, path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in curves:
        return curves[key.curve.name]
    raise ValueError(f"{path}: its key must be ECDSA (P-256, P-384, P-521), RSA or Ed25519")
