import numpy as np
import pytest
from retouch_common.synthesis.jpeg import compress


def scene(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    wave = 0.5 + 0.3 * np.sin(x / 5.0) * np.cos(y / 9.0)
    return np.stack([wave, 0.4 + 0.002 * x, 0.6 - 0.002 * y], -1).astype(np.float32)


@pytest.mark.parametrize("subsample", [True, False])
@pytest.mark.parametrize("quality", [40, 90])
def test_result_is_what_a_codec_gives(quality: int, subsample: bool) -> None:
    import pyvips

    levels = (scene(61, 83) * 255).round().astype(np.uint8)
    mode = "on" if subsample else "off"
    data = pyvips.Image.new_from_array(levels).jpegsave_buffer(Q=quality, subsample_mode=mode)
    decoded = pyvips.Image.new_from_buffer(data, "").numpy().astype(np.float32) / 255
    ours = compress(levels.astype(np.float32) / 255, quality, subsample=subsample)
    assert np.sqrt(np.mean((ours - decoded) ** 2)) < 2.0 / 255
    assert ours.min() >= 0.0 and ours.max() <= 1.0


def test_lower_quality_loses_more() -> None:
    image = scene(64, 64)
    errors = [np.abs(compress(image, quality) - image).mean() for quality in (95, 60, 20, 5)]
    assert errors == sorted(errors) and errors[0] < 0.01


@pytest.mark.parametrize("quality", [0, 101])
def test_quality_out_of_range_is_refused(quality: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 100"):
        compress(scene(16, 16), quality)
