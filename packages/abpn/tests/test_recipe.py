"""``abpn-retouch --recipe``."""

import numpy as np
from abpn.cli import retouch
from retouch_common.photo.io import Photo
from retouch_common.testing.recipe_contract import RecipeContract


class TestRecipe(RecipeContract):
    network, command = "abpn", retouch

    def test_the_whole_photo_is_retouched_as_by_the_command(self, photo, weights, retoucher, tmp_path):
        """A recipe for the whole photo gives the pixels of ``--region photo``."""
        recipe = self.recipe(photo, retoucher, {"step": "region", "value": "photo"}).write(photo)
        plain, applied = tmp_path / "plain.png", tmp_path / "applied.png"
        assert self.run(photo, "-o", plain, "--weights", weights, "--region", "photo").exit_code == 0
        result = self.run(photo, "-o", applied, "--weights", weights, "--recipe", recipe)
        assert result.exit_code == 0 and "the whole photo, 1 step of the recipe" in result.output
        assert (Photo.open(plain).read() != Photo.open(photo).read()).any()
        np.testing.assert_array_equal(Photo.open(applied).read(), Photo.open(plain).read())
