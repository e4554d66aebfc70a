import pytest
import torch
from retouch_common.faces.boxes import box_iou, nms


def test_intersection_over_union():
    boxes = torch.tensor([[0.0, 0, 2, 2], [10, 10, 12, 12]])
    others = torch.tensor([[1.0, 1, 3, 3], [0, 0, 2, 2], [0, 0, 2, 1]])
    assert box_iou(boxes, others).tolist() == [pytest.approx([1 / 7, 1, 0.5]), [0, 0, 0]]


def test_the_best_of_overlapping_boxes_is_kept_and_suppresses_only_its_own():
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10], [50, 0, 60, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.95])
    assert nms(boxes, scores, 0.3).tolist() == [3, 0, 2]  # the third overlaps only the second, which is suppressed


def test_suppression_is_that_of_kornia():
    from kornia.geometry.bbox import nms as expected

    generator = torch.Generator().manual_seed(0)
    corner = 100 * torch.rand(200, 2, generator=generator)
    boxes = torch.cat([corner, corner + 5 + 30 * torch.rand(200, 2, generator=generator)], dim=1)
    scores = torch.rand(200, generator=generator)
    assert nms(boxes, scores, 0.3).tolist() == expected(boxes, scores, 0.3).tolist()


def test_no_boxes():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.3).tolist() == []
