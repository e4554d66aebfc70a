"""``bpfre-retouch --recipe``."""

from bpfre.cli import retouch
from retouch_common.testing.recipe_contract import RecipeContract


class TestRecipe(RecipeContract):
    network, command = "bpfre", retouch
