import numpy as np
import pytest
import torch
from retouch_common.inference.demo import astronaut, draw_blemishes
from retouch_common.metrics.quality import true_mask

pytest.importorskip("skimage")


def test_the_table_is_of_the_mask_that_the_metrics_have():
    blemished, mask = draw_blemishes(astronaut())
    raw, target = (torch.from_numpy(image).permute(2, 0, 1) / 255 for image in (blemished, astronaut()))
    np.testing.assert_array_equal(mask, true_mask(raw, target)[0, 0].numpy())
