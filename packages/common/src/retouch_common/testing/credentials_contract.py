"""The contract of ``--sign`` of the commands, as a test suite to subclass.

class TestCredentials(CredentialsContract):
    package, command = "bpfre", retouch

    @pytest.fixture
    def options(self, weights):
        return ["--weights", weights]

The tests are skipped without the extra ``c2pa``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import click
import numpy as np
import pytest

from retouch_common.photo.content_credentials import read_credentials
from retouch_common.photo.io import Photo
from retouch_common.testing.certificates import write_certificate
from retouch_common.testing.photos import make_photo, run_command

FACE_BOX = "110,80,60,80"


class CredentialsContract:
    """Tests that a command with the option ``--sign`` must pass.

    The fixture ``options`` returns the arguments with which the command changes a photograph, except for the
    photograph, ``-o``, ``--face-box`` and ``--sign``.
    """

    package: ClassVar[str]
    """Package that the credentials name."""
    command: ClassVar[click.Command]
    """The command."""

    def test_signed_output_names_the_original_and_the_region(self, options: list[Any], tmp_path: Path) -> None:
        """Credentials are valid, regions cover what is changed, and pixels are those of the unsigned output."""
        pytest.importorskip("c2pa")
        certificate, _ = write_certificate(tmp_path)
        photo = make_photo(tmp_path / "anna.png", size=(400, 500))
        plain, signed = tmp_path / "plain.png", tmp_path / "signed.png"
        for out, extra in ((plain, ()), (signed, ("--sign", certificate))):
            result = run_command(self.command, *options, photo, "-o", out, "--face-box", FACE_BOX, *extra)
            assert result.exit_code == 0, result.output
        np.testing.assert_array_equal(Photo.open(signed).read(), Photo.open(plain).read())
        assert read_credentials(plain) is None
        found = read_credentials(signed)
        assert found is not None and found["signature"] == "valid" and not found["problems"]
        (claim,) = found["manifests"]
        assert (claim["signed_by"], claim["ingredients"]) == ("Photographer", ["anna.png"])
        opened, edited = claim["actions"]
        assert (opened["action"], edited["action"]) == ("c2pa.opened", "c2pa.edited")
        assert edited["source_type"] == "compositeWithTrainedAlgorithmicMedia"
        assert edited["program"].startswith(f"{self.package} ")
        changed = (Photo.open(signed).read() != Photo.open(photo).read()).any(axis=2)
        outside = np.ones_like(changed)
        for x, y, width, height in np.array(edited["regions"], int):
            outside[y : y + height, x : x + width] = False
        assert changed.any() and outside.any() and not changed[outside].any()
