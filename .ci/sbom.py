"""Put a software bill of materials into built wheels: `python .ci/sbom.py WHEEL…`.

It is a CycloneDX file in `.dist-info/sboms/` (PEP 770) that lists what a wheel bundles besides its own code: weights,
with their SHA-256. Dependencies are not bundled and stand in METADATA. poetry-core cannot write one.
"""

from __future__ import annotations

import base64
import email
import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path

MODELS = ".safetensors"


def sbom_of(wheel: zipfile.ZipFile) -> dict:
    """Return the CycloneDX document of an open wheel, the same for the same files."""
    names = wheel.namelist()
    metadata = email.message_from_bytes(wheel.read(next(n for n in names if n.endswith(".dist-info/METADATA"))))
    name, version = metadata["Name"], metadata["Version"]
    purl = f"pkg:pypi/{name}@{version}"
    models = [
        {
            "type": "machine-learning-model",
            "bom-ref": f"{purl}#{path}",
            "name": path,
            "version": version,
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read(path)).hexdigest()}],
        }
        for path in sorted(names)
        if path.endswith(MODELS)
    ]
    package = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if licence := metadata["License-Expression"]:
        package["licenses"] = [{"expression": licence}]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": package},
        "components": models,
        "dependencies": [{"ref": purl, "dependsOn": [model["bom-ref"] for model in models]}],
    }


def sbom_path(wheel: zipfile.ZipFile) -> str:
    """Return where an open wheel has its document."""
    folder = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")).removesuffix("METADATA")
    return f"{folder}sboms/{folder.partition('-')[0]}.cdx.json"


def add_sbom(path: Path) -> None:
    """Add the document to a wheel, in place of an earlier one, and enter it in RECORD."""
    temporary = path.with_suffix(".partial")
    with zipfile.ZipFile(path) as old:
        added = sbom_path(old)
        record = added.partition("/")[0] + "/RECORD"
        data = (json.dumps(sbom_of(old), indent=2) + "\n").encode()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines = [line for line in old.read(record).decode().splitlines() if not line.startswith(f"{added},")]
        lines.insert(-1, f"{added},sha256={digest},{len(data)}")
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                if entry.filename not in (added, record):
                    new.writestr(entry, old.read(entry))
            for name, content in ((added, data), (record, "\n".join(lines).encode() + b"\n")):
                entry = zipfile.ZipInfo(name, old.getinfo(record).date_time)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, old.getinfo(record).external_attr
                new.writestr(entry, content)
    os.replace(temporary, path)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        add_sbom(Path(argument))
