import base64
import csv
import hashlib
import io
import json
import zipfile

import check_dist
import pytest
import sbom

INFO = "tool-1.2.dist-info"
WEIGHTS = b"weights"


@pytest.fixture
def wheel(tmp_path):
    metadata = "Metadata-Version: 2.4\nName: tool\nVersion: 1.2\nSummary: A tool.\nLicense-Expression: Apache-2.0\n"
    files = {
        "tool/py.typed": b"",
        "tool/weights/small.safetensors": WEIGHTS,
        f"{INFO}/METADATA": f"{metadata}Requires-Python: >=3.10\n\nDescription.\n".encode(),
        f"{INFO}/licenses/LICENSE": b"terms",
    }
    path = tmp_path / "tool-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
        rows = [f"{name},sha256={digest(data)},{len(data)}\n" for name, data in files.items()]
        file.writestr(f"{INFO}/RECORD", "".join(rows) + f"{INFO}/RECORD,,\n")
    return path


def digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def test_weights_are_listed_with_their_checksums_and_the_record_holds(wheel):
    assert "has no bill of materials" in " ".join(check_dist.wheel_problems(wheel))
    sbom.add_sbom(wheel)
    assert check_dist.wheel_problems(wheel) == []
    with zipfile.ZipFile(wheel) as file:
        document = json.loads(file.read(f"{INFO}/sboms/tool.cdx.json"))
        rows = list(csv.reader(io.StringIO(file.read(f"{INFO}/RECORD").decode())))
        assert sorted(row[0] for row in rows) == sorted(file.namelist())
        for name, checksum, size in rows[:-1]:
            assert checksum == f"sha256={digest(file.read(name))}" and int(size) == len(file.read(name))
    assert document["bomFormat"] == "CycloneDX" and document["metadata"]["component"]["purl"] == "pkg:pypi/tool@1.2"
    (model,) = document["components"]
    assert (model["type"], model["name"]) == ("machine-learning-model", "tool/weights/small.safetensors")
    assert model["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(WEIGHTS).hexdigest()}]


def test_adding_it_again_changes_nothing(wheel):
    sbom.add_sbom(wheel)
    once = wheel.read_bytes()
    sbom.add_sbom(wheel)
    assert wheel.read_bytes() == once and [path.name for path in wheel.parent.iterdir()] == [wheel.name]


def test_other_weights_than_listed_are_noticed(wheel, tmp_path):
    sbom.add_sbom(wheel)
    changed = tmp_path / "tool-1.3-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, b"others" if name.endswith(".safetensors") else old.read(name))
    assert any("lists its weights" in problem for problem in check_dist.wheel_problems(changed))
