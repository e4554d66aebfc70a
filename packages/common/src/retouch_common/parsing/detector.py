"""The face parser as a face detector of last resort, registered when this package is imported."""

from __future__ import annotations

import functools

from retouch_common.faces.registry import Detector, DetectorUnavailable, register_detector


@functools.lru_cache(maxsize=1)
def load_detector() -> Detector:
    """Return :func:`retouch_common.parsing.finder.find_faces` with the bundled parser.

    Raises:
        DetectorUnavailable: This package comes without the parser's weights.
    """
    from retouch_common.parsing.finder import find_faces
    from retouch_common.parsing.model import BUNDLED
    from retouch_common.parsing.parser import FaceParser
    from retouch_common.weights import bundled_names

    if "small" not in bundled_names(BUNDLED):
        raise DetectorUnavailable("the face parser's weights are not bundled; reinstall retouch-common")
    return functools.partial(find_faces, parser=FaceParser("small", "cpu"))


register_detector("face parser", load_detector, last_resort=True)
