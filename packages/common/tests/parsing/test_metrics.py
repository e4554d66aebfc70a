"""Figures of small label pictures, counted by hand and by torchmetrics."""

import numpy as np
import pytest
import torch
from retouch_common.parsing.labels import CLASSES, NUM_CLASSES
from retouch_common.parsing.metrics import PARTS, confusion, segmentation_metrics


def test_counted_by_hand():
    truth = np.array([[0, 0, 1, 1], [0, 0, 1, 10]])
    found = np.array([[0, 1, 1, 1], [0, 0, 0, 10]])
    matrix = confusion(found, truth)
    assert matrix[0, 0] == 3 and matrix[0, 1] == 1 and matrix[1, 1] == 2 and matrix[1, 0] == 1 and matrix[10, 10] == 1
    assert matrix.sum() == 8
    measured = segmentation_metrics(matrix)
    assert measured["pixel_accuracy"] == pytest.approx(6 / 8)
    assert measured["class_accuracy"] == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)
    assert measured["miou"] == pytest.approx((3 / 5 + 2 / 4 + 1) / 3)
    assert measured["f1_skin"] == pytest.approx(2 * 2 / (3 + 3))
    assert measured["f1_mean"] == pytest.approx((2 / 3 + 1) / 2)
    assert "f1_nose" not in measured


def test_helen_does_not_mind_left_and_right_nor_which_lip():
    truth = np.array([2, 2, 3, 4, 5, 6, 7, 8, 9, 1, 10])
    found = np.array([3, 2, 2, 5, 5, 6, 9, 7, 9, 10, 1])
    measured = segmentation_metrics(confusion(found, truth))
    assert measured["f1_helen"] == 1
    assert measured["f1_brow_right"] == 0 and measured["f1_hair"] == 0


def test_helen_counts_pixels_of_all_parts_together():
    truth, found = np.array([2, 2, 6, 0]), np.array([2, 0, 6, 6])
    assert segmentation_metrics(confusion(found, truth))["f1_helen"] == pytest.approx(2 * 2 / (3 + 3))


def test_agrees_with_torchmetrics():
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_confusion_matrix,
        multiclass_f1_score,
        multiclass_jaccard_index,
    )

    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, NUM_CLASSES, (3, 20, 30), generator=generator)
    found = torch.where(torch.rand(truth.shape, generator=generator) < 0.7, truth, truth.roll(1, 0))
    matrix = confusion(found, truth)
    np.testing.assert_array_equal(matrix, multiclass_confusion_matrix(found, truth, NUM_CLASSES).numpy())
    measured = segmentation_metrics(matrix)
    f1 = multiclass_f1_score(found, truth, NUM_CLASSES, average="none").tolist()
    for name, value in zip(CLASSES, f1, strict=True):
        assert measured[f"f1_{name}"] == pytest.approx(value, abs=1e-6)
    assert measured["f1_mean"] == pytest.approx(np.mean([f1[CLASSES.index(name)] for name in PARTS]), abs=1e-6)
    assert measured["miou"] == pytest.approx(float(multiclass_jaccard_index(found, truth, NUM_CLASSES)), abs=1e-6)
    assert measured["class_accuracy"] == pytest.approx(float(multiclass_accuracy(found, truth, NUM_CLASSES)), abs=1e-6)


def test_other_shapes_and_classes_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int))
    for wrong in (11, -1):
        with pytest.raises(ValueError, match=f"0 to 10, {wrong} is none"):
            confusion(np.array([0, wrong, 3]), np.zeros(3, int))


def test_nothing_is_no_number():
    assert np.isnan(segmentation_metrics(np.zeros((11, 11)))["pixel_accuracy"])
