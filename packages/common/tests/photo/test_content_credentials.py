"""Content credentials of outputs, read by c2pa-python, which trusts the root of a certificate made here."""

import hashlib
import json
import sys

import click
import numpy as np
import pytest
import pyvips
from click.testing import CliRunner
from PIL import Image
from retouch_common.cli.photos import output_options
from retouch_common.inference.photos import PhotoOptions, open_photo, write_photo
from retouch_common.photo.content_credentials import CREDENTIALS, load_certificate, read_credentials
from retouch_common.photo.io import Photo
from retouch_common.testing.certificates import write_certificate

from ..conftest import smooth_pixels

c2pa = pytest.importorskip("c2pa")
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
REGION = (10, 20, 30, 24)


@pytest.fixture
def signer(tmp_path):
    (tmp_path / "keys").mkdir()
    return write_certificate(tmp_path / "keys")


@pytest.fixture
def original(tmp_path):
    exif = Image.Exif()
    exif[271] = "Maker"
    Image.fromarray(smooth_pixels(60, 80, 3, np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    return tmp_path / "a.jpg"


def signed(source, target, certificate, **options):
    options = PhotoOptions(sign=certificate, **options)
    photo = open_photo(source, target, options)
    edited = photo.read()
    x, y, w, h = REGION
    edited[y : y + h, x : x + w] //= 2
    write_photo(photo, target, iter([edited]), options, [REGION], weights="ab" * 32)
    return target


def verified(path, root):
    """Return the validation state and the store of manifests."""
    settings = {"trust": {"trust_anchors": root.read_text()}, "verify": {"remote_manifest_fetch": False}}
    with open(path, "rb") as file, c2pa.Reader(None, file, context=c2pa.Context.from_dict(settings)) as reader:
        return reader.get_validation_state(), json.loads(reader.json())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_output_has_verified_credentials_and_is_otherwise_the_same(original, signer, tmp_path, suffix):
    certificate, root = signer
    out = signed(original, tmp_path / f"out{suffix}", certificate)
    state, store = verified(out, root)
    assert state == "Trusted"
    manifest = store["manifests"][store["active_manifest"]]
    assert manifest["signature_info"]["common_name"] == "Photographer"
    (ingredient,) = manifest["ingredients"]
    assert (ingredient["title"], ingredient["relationship"]) == ("a.jpg", "parentOf")
    assert ingredient["description"] == f"SHA-256 {hashlib.sha256(original.read_bytes()).hexdigest()}"
    assert "thumbnail" not in ingredient and "thumbnail" not in manifest  # it would show the face before retouching
    (actions,) = [entry["data"]["actions"] for entry in manifest["assertions"] if "actions" in entry["label"]]
    assert [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]
    assert actions[1]["digitalSourceType"] == COMPOSITE
    assert actions[1]["softwareAgent"]["name"] == "retouch_common" and "ab" * 32 in actions[1]["description"]
    (shape,) = [part["shape"] for change in actions[1]["changes"] for part in change["region"]]
    assert (shape["type"], shape["unit"]) == ("rectangle", "pixel")
    assert (shape["origin"]["x"], shape["origin"]["y"], shape["width"], shape["height"]) == REGION
    plain = signed(original, tmp_path / f"plain{suffix}", None)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(
        [*{"a.jpg", plain.name, out.name}]
    )
    with Image.open(out) as one, Image.open(plain) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert one.getexif()[271] == "Maker" and b"xmpMM:History" in one.info["xmp"]


def test_changed_files_are_invalid(original, signer, tmp_path):
    out = signed(original, tmp_path / "out.jpg", signer[0])
    assert read_credentials(out)["signature"] == "valid"
    data = bytearray(out.read_bytes())
    data[-500] ^= 1
    out.write_bytes(data)
    found = read_credentials(out)
    assert found["signature"] == "invalid" and found["problems"] == ["assertion.dataHash.mismatch"]
    assert read_credentials(original) is None


def test_a_second_edit_keeps_the_first_and_claims_are_read(original, signer, tmp_path):
    once = signed(original, tmp_path / "once.png", signer[0])
    twice = signed(once, tmp_path / "twice.jpg", signer[0], provenance=False)
    state, store = verified(twice, signer[1])
    assert state == "Trusted" and len(store["manifests"]) == 2
    found = read_credentials(twice)
    assert found["signature"] == "valid" and not found["problems"]
    assert [claim["ingredients"] for claim in found["manifests"]] == [["once.png"], ["a.jpg"]]
    for claim in found["manifests"]:
        assert claim["signed_by"] == "Photographer" and claim["issuer"] == "Test"
        assert [action["action"] for action in claim["actions"]] == ["c2pa.opened", "c2pa.edited"]
        edited = claim["actions"][1]
        assert edited["source_type"] == "compositeWithTrainedAlgorithmicMedia"
        assert edited["program"].startswith("retouch_common") and edited["regions"] == [list(REGION)]
    with Image.open(twice) as image:
        assert image.info["xmp"].count(b"stEvt:action>edited") == 1  # of the first edit


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [None], [1], ["x"], [{}], [[]]])
def test_malformed_claims_are_no_error(original, signer, tmp_path, value, monkeypatch):
    out = signed(original, tmp_path / "out.jpg", signer[0])
    store = verified(out, signer[1])[1]

    def replaced(node):
        """Yield the store with one of its values replaced, for each."""
        for key, old in list(node.items() if isinstance(node, dict) else enumerate(node)):
            node[key] = value
            yield
            node[key] = old
            if isinstance(old, (dict, list)):
                yield from replaced(old)

    monkeypatch.setattr(c2pa.Reader, "json", lambda reader: json.dumps(store))
    count = 0
    for _ in replaced(store):
        found = read_credentials(out)
        assert set(found) == {"signature", "problems", "manifests"}
        count += 1
    assert count > 50


def test_an_input_may_be_replaced_by_its_signed_output(original, signer):
    signed(original, original, signer[0], overwrite=True)
    assert read_credentials(original)["manifests"][0]["ingredients"] == ["a.jpg"]


def test_gain_map_stays_readable(signer, tmp_path):
    if not pyvips.type_find("VipsOperation", "uhdrsave"):
        pytest.skip("this libvips reads no Ultra HDR")
    levels = pyvips.Image.new_from_array(smooth_pixels(96, 128, 3, np.uint8)).copy(interpretation="srgb")
    levels.colourspace("scrgb").uhdrsave(str(tmp_path / "a.jpg"))
    out = signed(tmp_path / "a.jpg", tmp_path / "out.jpg", signer[0])
    assert verified(out, signer[1])[0] == "Trusted"
    assert pyvips.Image.uhdrload(str(out)).get_typeof("gainmap-data")
    with Image.open(out) as image:
        assert image.format == "MPO" and image.n_frames == 2


def test_an_unchanged_photo_is_copied_with_its_own_credentials(original, signer, tmp_path):
    out = signed(original, tmp_path / "out.jpg", signer[0])
    write_photo(Photo.open(out), tmp_path / "copy.jpg", None, PhotoOptions(sign=signer[0]), [])
    assert (tmp_path / "copy.jpg").read_bytes() == out.read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_credentials_that_are_not_carried_are_named(original, signer, tmp_path, suffix, caplog):
    out = signed(original, tmp_path / f"out{suffix}", signer[0])
    assert not caplog.text
    signed(out, tmp_path / "b.png", None)
    assert f"not carried over from out{suffix}: {CREDENTIALS}" in caplog.text


@pytest.mark.parametrize("strip", ["gps", "all"])
def test_credentials_are_not_carried_past_strip(original, signer, tmp_path, strip):
    once = signed(original, tmp_path / "once.jpg", signer[0], strip=strip)
    with pytest.raises(ValueError, match=r"once\.jpg: has content credentials \(C2PA\), which --sign carries whole"):
        signed(once, tmp_path / "twice.jpg", signer[0], strip=strip)
    assert not (tmp_path / "twice.jpg").exists()


def keys():
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    return {
        "es384": ec.generate_private_key(ec.SECP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "ps256": rsa.generate_private_key(65537, 2048),
    }


def test_kinds_of_keys(tmp_path):
    for algorithm, key in keys().items():
        (tmp_path / algorithm).mkdir()
        assert load_certificate(write_certificate(tmp_path / algorithm, key=key)[0]).algorithm == algorithm


def test_useless_certificates_are_refused_in_one_line(signer, tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    chain, mark, key = signer[0].read_text().partition("-----BEGIN PRIVATE KEY")
    other = ec.generate_private_key(ec.SECP256K1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        pem, pkcs8, serialization.BestAvailableEncryption(b"x")
    )
    curve = other.private_bytes(pem, pkcs8, serialization.NoEncryption())
    foreign = keys()["es384"].private_bytes(pem, pkcs8, serialization.NoEncryption())
    (tmp_path / "old").mkdir()
    for text, why in (
        ("nothing", "holds no certificate"),
        (mark + key, "holds no certificate"),
        (chain, "holds no private key"),
        (chain + locked.decode(), "is encrypted; decrypt it"),
        (chain + curve.decode(), "must be ECDSA"),
        (chain + foreign.decode(), "cannot be used to sign: "),
        (write_certificate(tmp_path / "old", days=-1)[0].read_text(), "cannot be used to sign: .*not valid"),
    ):
        path = tmp_path / f"{hashlib.sha256(text.encode()).hexdigest()[:8]}.pem"
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"\.pem: .*{why}") as caught:
            load_certificate(path)
        assert "\n" not in str(caught.value) and "PRIVATE KEY" not in str(caught.value)


@click.command()
@output_options
def command(sign, **options):
    click.echo(f"signs with {sign}")


def test_the_option_refuses_before_anything_else(signer, tmp_path, monkeypatch):
    (tmp_path / "none.pem").write_text("nothing")
    result = CliRunner().invoke(command, ["--sign", str(tmp_path / "none.pem")])
    assert result.exit_code == 2 and "Error: --sign " in result.output and "holds no certificate" in result.output
    assert CliRunner().invoke(command, ["--sign", str(signer[0])]).output == f"signs with {signer[0]}\n"
    load_certificate.cache_clear()
    monkeypatch.setitem(sys.modules, "c2pa", None)
    result = CliRunner().invoke(command, ["--sign", str(signer[0])])
    assert result.exit_code == 2 and "signing needs an extra: pip install 'retouch-common[c2pa]'" in result.output
    assert CliRunner().invoke(command, []).output == "signs with None\n"
