"""``bpfre-retouch --recipe``."""

from bpfre.cli import retouch
from retouch_common.testing.recipe_contract import RecipeContract


class TestRecipe(RecipeContract):
    network, command = "bpfre", retouch

    def test_the_whole_photo_is_refused(self, photo, weights, retoucher, tmp_path):
        """The message says that the network retouches faces."""
        recipe = self.recipe(photo, retoucher, {"step": "region", "value": "photo"}).write(photo)
        result = self.run(photo, "-o", tmp_path / "x.png", "--weights", weights, "--recipe", recipe)
        assert result.exit_code == 1 and "bpfre retouches faces, and not the whole photo" in result.output

    def test_the_first_stage_alone_is_refused(self, photo, weights, retoucher, tmp_path):
        """The studio shows the result of both."""
        recipe = self.recipe(photo, retoucher).write(photo)
        options = ("--weights", weights, "--recipe", recipe, "--stage", "coarse")
        result = self.run(photo, "-o", tmp_path / "x.png", *options)
        assert result.exit_code == 2 and "leave out --stage" in result.output
