"""Networks on the aligned faces of photographs."""

import numpy as np
import pytest
import torch
from retouch_common.faces.alignment import FaceSquare
from retouch_common.inference.faces import ChangedFace, changed_image, face_change, run_on_faces
from retouch_common.inference.photos import require_strength


def test_results_come_in_the_order_of_the_faces_whatever_the_batches():
    batches = []

    def network(batch):
        batches.append([index for index, _ in batch])
        return [face.upper() for _, face in batch]

    assert run_on_faces([(2, "c"), (0, "a"), (1, "b")], network, batch_size=2) == ["A", "B", "C"]
    assert batches == [[2, 0], [1]]
    assert run_on_faces([], network) == []


def test_changes_of_a_level_are_noise():
    image = torch.full((1, 3, 1, 3), 0.5)
    output = image + torch.tensor([0.9, -1.1, 3.0]) / 255
    change = face_change(output, image)
    assert change.shape == (1, 1, 3, 3)
    assert 255 * change[0, 0, :, 0] == pytest.approx([0, -1.1, 3.0], abs=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_refused(value):
    image = torch.full((1, 3, 4, 4), 0.5)
    output = image.clone()
    output[0, 1, 2, 3] = value
    with pytest.raises(ValueError, match="the network's output holds NaN or infinite values; its weights are unusable"):
        face_change(output, image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_difference_is_pasted_into_a_copy(dtype):
    largest = np.iinfo(dtype).max
    image = np.full((40, 50, 3), largest // 2, dtype)
    before = image.copy()
    face = ChangedFace(FaceSquare((25.0, 20.0), 20.0), np.full((8, 8, 3), 0.2, np.float32))
    result = changed_image(image, [face], strength=0.5)
    assert result.dtype == dtype and np.array_equal(image, before)
    assert result[20, 25].astype(float) - image[20, 25] == pytest.approx([0.1 * largest] * 3, abs=1)
    outside = np.ones((40, 50), bool)
    outside[9:31, 14:36] = False
    assert np.array_equal(result[outside], image[outside])


def test_strength_is_a_share():
    require_strength(0)
    with pytest.raises(ValueError, match=r"strength must lie between 0 and 1, not 1\.5"):
        require_strength(1.5)
