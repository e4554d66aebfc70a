"""Evidence on people anywhere that both packages which retouch blemishes share."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cache
from typing import Any

from retouch_common.testing.anywhere import (
    Gains,
    Harm,
    MeshPortrait,
    Retouch,
    measure_gain,
    measure_harm,
    portraits_with_mesh,
)
from retouch_common.testing.evidence import ANYWHERE, Evidence, face_sets


@cache
def people_anywhere() -> tuple[MeshPortrait, ...]:
    """Return the held-out people of the sets ANYWHERE; NotMeasured without them."""
    return tuple(portraits_with_mesh(face_sets(ANYWHERE)))


def promise_anywhere(evidence: Evidence, retouch: Callable[[], Retouch]) -> None:
    """Register the figures and sheets of a retouching network on people anywhere; ``retouch`` loads it."""
    from retouch_common.testing.blemish_program import draw_blemishes
    from retouch_common.testing.sheets import retouched_rows

    @evidence.kept
    def harm() -> Harm:
        return measure_harm(people_anywhere(), retouch())

    @evidence.kept
    def gains() -> Gains:
        return measure_gain(people_anywhere(), retouch(), draw_blemishes)

    @evidence.figure("people anywhere, nothing drawn: pixels outside skin that change, mean", at_most=0.3, unit="%")
    def elsewhere() -> tuple[float, dict[str, Any]]:
        found = harm()
        details = {"photographs": len(found.elsewhere), "no face found": found.not_found}
        return 100 * statistics.mean(found.elsewhere.values()), details

    @evidence.figure("people anywhere, nothing drawn: the same, worst picture", at_most=2, unit="%")
    def elsewhere_worst() -> float:
        return 100 * max(harm().elsewhere.values())

    @evidence.figure("people anywhere, nothing drawn: pictures of which something is painted over", at_most=5, unit="%")
    def painted_over() -> tuple[float, dict[str, Any]]:
        """Images in which the mean colour of some 24 x 24 block moves by more than 10 levels."""
        found = harm()
        shifts = sorted(found.shift.values())
        return 100 * len(found.painted_over) / len(shifts), {
            "pictures": len(found.painted_over),
            "of": len(shifts),
            "by blocks of a grid": len(found.painted_over_grid),
            "largest shift in levels, median": statistics.median(shifts),
            "largest shift in levels, worst": shifts[-1],
        }

    @evidence.figure("people anywhere, blemishes of another program: gain inside them", at_least=6, unit="dB")
    def gain_anywhere() -> tuple[float, dict[str, Any]]:
        return gains().gain(), gains().as_json()

    @evidence.figure("people anywhere, blemishes of another program: pictures that are worse", at_most=0)
    def worse_anywhere() -> int:
        return len(gains().worse)

    @evidence.figure("people anywhere: largest difference in gain between groups of skin tone", at_most=1.5, unit="dB")
    def tone_spread() -> float:
        """Individual typology angle of the cheeks: below 28, to 41, above."""
        return gains().tone_spread

    evidence.sheets(lambda: retouched_rows(people_anywhere(), retouch(), draw_blemishes))
