"""``abpn-retouch --recipe``."""

from abpn.cli import retouch
from retouch_common.testing.recipe_contract import RecipeContract


class TestRecipe(RecipeContract):
    network, command = "abpn", retouch
