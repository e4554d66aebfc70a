"""Options of several commands and their parameter types."""

from typing import Any

import click
from retouch_common.cli.photos import FaceBox

from maskgan.config import COMPONENT_NAMES

aligned_option = click.option(
    "--aligned", is_flag=True, help="Photos are aligned faces as maskgan-parse writes them, square images."
)
parser_option = click.option(
    "--parser",
    metavar="NAME|PATH|HUB_ID",
    default="small",
    show_default=True,
    help="Weights of the face parser.",
)
adapt_option = click.option(
    "--adapt",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Adapt the network to the face in N steps before the edit; 80 take about 20 seconds on two cores.",
)
face_box_option = click.option(
    "--face-box",
    "face_boxes",
    type=FaceBox(),
    multiple=True,
    help="Position of the face in pixels of the upright photo, instead of the largest face.",
)


class Parts(click.ParamType):
    """Names of components, or eyes for both, or all."""

    name = "PART,PART,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Parse the names."""
        if not isinstance(value, str):
            return tuple(value)
        names: list[str] = []
        for word in value.replace(" ", "").split(","):
            chosen = {"all": COMPONENT_NAMES, "eyes": ("eye_left", "eye_right")}.get(word, (word,))
            if not set(chosen) <= set(COMPONENT_NAMES):
                self.fail(f"{word!r} is none of {', '.join(COMPONENT_NAMES)}, eyes, all", param, ctx)
            names += [name for name in chosen if name not in names]
        return tuple(names)


class NamedWeights(click.ParamType):
    """NAME=WEIGHTS, or WEIGHTS, which is then the name, too."""

    name = "[NAME=]WEIGHTS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split name and weights."""
        if isinstance(value, tuple):
            return value
        name, equals, weights = value.partition("=")
        if equals and not (name and weights):
            self.fail(f"{value!r} is not of the form NAME=WEIGHTS", param, ctx)
        return (name, weights) if equals else (value, value)
