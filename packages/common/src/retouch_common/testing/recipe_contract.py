"""The contract of ``--recipe`` of the retouching commands, as a test suite to subclass.

class TestRecipe(RecipeContract):
    network, command = "abpn", retouch

The fixtures ``weights``, a folder, and ``retoucher``, which runs them in fp32, are the package's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import click
import numpy as np
import pytest
from click.testing import Result

from retouch_common.faces.face import Face
from retouch_common.inference.recipe import Recipe
from retouch_common.inference.recipe_retouching import apply_recipe
from retouch_common.photo.io import Photo
from retouch_common.testing.photos import make_photo, run_command

BOX = (110.0, 80.0, 60.0, 80.0)
FACE = Face(BOX, 1.0, np.full((5, 2), np.nan, np.float32))


class RecipeContract:
    """Tests that a command with the option ``--recipe`` must pass."""

    network: ClassVar[str]
    """Name of the package."""
    command: ClassVar[click.Command]
    """Its command."""

    @pytest.fixture(params=[np.uint8, np.uint16])
    def photo(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        """Return a photograph that holds ``FACE``."""
        return make_photo(tmp_path / "anna.png", dtype=request.param)

    def recipe(self, photo: Path, retoucher: Any, *steps: dict[str, Any]) -> Recipe:
        """Return a recipe of the photograph."""
        opened = Photo.open(photo)
        return Recipe(
            network=self.network, width=opened.width, height=opened.height, faces=(FACE,), steps=steps,
            weights=retoucher.weights_sha256, time="2026-01-02T03:04:05+00:00",
        )  # fmt: skip

    def run(self, *arguments: object) -> Result:
        """Run the command in fp32."""
        return run_command(self.command, *arguments, "--precision", "fp32")

    def test_without_steps_the_result_is_that_of_the_command(
        self, photo: Path, weights: str, retoucher: Any, tmp_path: Path
    ) -> None:
        """A recipe without steps gives the pixels of the command with the same face."""
        recipe = self.recipe(photo, retoucher).write(photo)
        plain, applied = tmp_path / "plain.png", tmp_path / "applied.png"
        box = ",".join(map(str, BOX))
        assert self.run(photo, "-o", plain, "--weights", weights, "--face-box", box).exit_code == 0
        result = self.run(photo, "-o", applied, "--weights", weights, "--recipe", recipe)
        assert result.exit_code == 0 and "1 face, 0 steps of the recipe" in result.output
        assert (Photo.open(plain).read() != Photo.open(photo).read()).any()
        np.testing.assert_array_equal(Photo.open(applied).read(), Photo.open(plain).read())

    def test_the_command_writes_the_bytes_of_the_function(
        self, photo: Path, weights: str, retoucher: Any, tmp_path: Path
    ) -> None:
        """The command and :func:`apply_recipe` write the same file; what a stroke protects stays."""
        recipe = self.recipe(
            photo, retoucher, {"step": "strength", "value": 0.6},
            {"step": "protect", "radius": 9.5, "points": [[130, 110], [141.5, 120]]},
        )  # fmt: skip
        out, file = tmp_path / "command.png", recipe.write(photo)
        apply_recipe(recipe, retoucher, photo, tmp_path / "function.png")
        assert self.run(photo, "-o", out, "--weights", weights, "--recipe", file).exit_code == 0
        assert (tmp_path / "function.png").read_bytes() == out.read_bytes()
        before, after = Photo.open(photo).read(), Photo.open(out).read()
        assert (before != after).any() and (before == after)[105:116, 125:136].all()

    def test_options_of_the_output_go_with_a_recipe(
        self, photo: Path, weights: str, retoucher: Any, tmp_path: Path
    ) -> None:
        """A deep photograph becomes a JPEG with --convert, and is refused without."""
        out, file = tmp_path / "out.jpg", self.recipe(photo, retoucher).write(photo)
        arguments = (photo, "-o", out, "--weights", weights, "--recipe", file)
        deep = Photo.open(photo).dtype == np.uint16
        assert self.run(*arguments).exit_code == deep and out.exists() != deep
        assert self.run(*arguments, "--convert", "--overwrite").exit_code == 0
        assert Photo.open(out).dtype == np.uint8

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            (("--strength", "0.5"), "strength"),
            (("--face-box", "110,80,60,80"), "face box"),
            (("--mask-out",), "mask out"),
        ],
    )
    def test_options_that_the_recipe_decides_are_refused(
        self, photo: Path, weights: str, retoucher: Any, tmp_path: Path, options: tuple[str, ...], name: str
    ) -> None:
        """Options of how to retouch exclude a recipe."""
        recipe = self.recipe(photo, retoucher).write(photo)
        arguments = (photo, "-o", tmp_path / "x.png", "--weights", weights, "--recipe", recipe)
        result = self.run(*arguments, *options)
        assert result.exit_code == 1 and f"leave out {name}" in result.output

    def test_it_is_for_one_photo(self, photo: Path, weights: str, retoucher: Any, tmp_path: Path) -> None:
        """Faces and strokes of one photo would be applied to others of its size."""
        options = ("-o", tmp_path / "out", "--weights", weights, "--recipe", self.recipe(photo, retoucher).write(photo))
        other = make_photo(tmp_path / "bea.png")
        (tmp_path / "list.txt").write_text("anna.png")
        table = ("--manifest", tmp_path / "list.txt", "--results", tmp_path / "results.parquet")
        for inputs in ((photo, other), table):
            result = self.run(*inputs, *options)
            assert result.exit_code == 2 and "--recipe repeats what was done with one photo" in result.output
            assert not (tmp_path / "out").exists()

    def test_a_file_that_is_not_a_recipe_is_refused(self, photo: Path, weights: str, tmp_path: Path) -> None:
        """The message names the file and what is wrong."""
        result = self.run(photo, "-o", tmp_path / "x.png", "--weights", weights, "--recipe", photo)
        assert result.exit_code == 1 and "anna.png: " in result.output and "is not JSON" in result.output
