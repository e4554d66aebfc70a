"""What the face-retouching packages share."""

import retouch_common.parsing.detector  # noqa: F401 - registers the detector of last resort; loads nothing heavy
