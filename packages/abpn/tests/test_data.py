"""Which pairs ABPN is trained and measured on."""

import abpn.evaluate
import abpn.train
import pytest
from abpn.data import FACE_WIDTHS, open_pairs
from retouch_common.data import pairs


def test_faces_are_as_wide_in_evaluation_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    crops = []
    monkeypatch.setattr(pairs, "open_pairs", lambda spec, **options: crops.append(options.get("crop")))
    for split in ("train", "val"):
        open_pairs("faces:portraits", size=256, split=split)
    assert [(crop.min_face_width, crop.max_face_width) for crop in crops] == 2 * [FACE_WIDTHS]
    assert abpn.train.open_pairs is abpn.evaluate.open_pairs is open_pairs


def test_published_pairs_have_no_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr(pairs, "open_pairs", lambda spec, **options: seen.update(options))
    open_pairs("pairs", size=256, split="val")
    assert seen == {"size": 256, "split": "val", "seed": 0, "fit": "whole"}
