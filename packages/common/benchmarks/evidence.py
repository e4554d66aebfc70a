"""What the common package promises, measured afresh: ``nox -s evidence -- common``."""

import statistics
from functools import cache

import large_photo
import many_photographs
import numpy as np
from mesh_parsing import FULL_FACE, f1_by_portrait
from retouch_common.faces.alignment import align, portrait_square
from retouch_common.faces.detection import detect_faces
from retouch_common.inference.demo import astronaut
from retouch_common.parsing.evaluate import evaluate as evaluate_parser
from retouch_common.parsing.finder import find_faces
from retouch_common.parsing.labels import coloured
from retouch_common.parsing.parser import FaceParser
from retouch_common.testing.anywhere_figures import people_anywhere
from retouch_common.testing.evidence import STUDIO, Evidence, bundled_weights, face_sets

# Pupils of scikit-image's astronaut and the middle between the corners of her mouth, read off by eye, in pixels.
ASTRONAUT = np.array([[204.0, 101.5], [246.5, 104.0], [224.0, 140.5]])

evidence = Evidence("common")
many_photographs.promise(evidence)
large_photo.promise(evidence)


@evidence.figure("face parser, people anywhere: F1 of the eyes against the mesh", at_least=0.85)
def mesh_eyes():
    """Mean over the held-out people, faces framed as the detector finds them."""
    return _mesh_f1("eyes")


@evidence.figure("face parser, people anywhere: F1 of the brows against the mesh", at_least=0.70)
def mesh_brows():
    return _mesh_f1("brows")


@evidence.figure("face parser, people anywhere: F1 of the lips against the mesh", at_least=0.90)
def mesh_lips():
    return _mesh_f1("lips")


@evidence.figure("face parser, people anywhere: F1 of the face against the mesh's oval", at_least=0.95)
def mesh_face():
    """Everything but background and hair, without the forehead above the oval, which ends below the hairline."""
    value, details = _mesh_f1("face")
    return value, {**details, "with the forehead above the oval": statistics.mean(_anywhere()[FULL_FACE])}


@evidence.figure("face parser: pixel accuracy on studio people not trained on", at_least=0.95)
def parser_accuracy():
    """All portraits with templates of the held-out people, aligned."""
    found = _studio()
    return found["pixel_accuracy"], found


@evidence.figure("face parser, studio people: mean F1 of skin, brows, eyes, nose, lips and hair", at_least=0.80)
def parser_f1():
    return _studio()["f1_mean"]


@evidence.figure("eyes and mouth of the astronaut: largest error in eye distances", at_most=0.15)
def astronaut_found():
    """Found by the parser alone in her whole picture."""
    faces = find_faces(astronaut(), _parser())
    if not faces:
        return 9.9, {"faces": 0}
    points = np.stack([*faces[0].landmarks[:2], faces[0].landmarks[3:].mean(axis=0)])
    unit = np.hypot(*(ASTRONAUT[1] - ASTRONAUT[0]))
    errors = np.hypot(*(points - ASTRONAUT).T) / unit
    return float(errors.max()), {"faces": len(faces), "left eye, right eye, mouth": errors.round(3).tolist()}


@evidence.figure("size of the face parser's weights", at_most=8, unit="MB")
def parser_size():
    return bundled_weights("retouch_common.parsing").stat().st_size / 1e6


@evidence.sheets
def sheets():
    """Every face as it is parsed."""
    parser = _parser()
    for portrait in people_anywhere():
        for face in detect_faces(portrait.levels)[:1]:
            aligned = align(portrait.levels, portrait_square(face, *portrait.levels.shape[:2]), parser.size)
            labels, picture = parser(aligned), np.rint(255 * aligned).astype(np.uint8)
            yield {"face": picture, "parts": coloured(labels), "both": (picture // 2 + coloured(labels) // 2)}


def _mesh_f1(part: str) -> tuple[float, dict[str, float]]:
    scores = _anywhere()[part]
    return statistics.mean(scores), {"median": statistics.median(scores), "worst": min(scores), "people": len(scores)}


@evidence.kept
def _anywhere() -> dict[str, list[float]]:
    parser = _parser()
    return f1_by_portrait(parser, parser.size, people_anywhere())


@evidence.kept
def _studio() -> dict[str, float]:
    return evaluate_parser(_parser(), f"faces:{face_sets(STUDIO)}", "val")


@cache
def _parser() -> FaceParser:
    return FaceParser("small", "cpu")


if __name__ == "__main__":
    evidence.main()
