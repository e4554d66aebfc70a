import numpy as np
import pytest
import pyvips

SAVERS = {
    ".jpg": ("jpegsave", {"Q": 95, "subsample_mode": "off"}),
    ".png": ("pngsave", {}),
    ".tif": ("tiffsave", {"compression": "lzw"}),
    ".webp": ("webpsave", {"lossless": True, "exact": True}),
    ".avif": ("heifsave", {"compression": "av1", "Q": 90, "subsample_mode": "off", "effort": 1}),
}
INTERPRETATIONS = {
    ("grey", 1): "b-w",
    ("grey", 2): "grey16",
    ("rgb", 1): "srgb",
    ("rgb", 2): "rgb16",
    ("cmyk", 1): "cmyk",
    ("cmyk", 2): "cmyk",
}
BANDS = {"grey": 1, "rgb": 3, "cmyk": 4}


def smooth_pixels(height, width, bands, dtype, seed=0):
    """A picture with slopes and a little noise, (height, width, bands)."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases = generator.uniform(0, 6, bands)
    values = 0.5 + 0.4 * np.sin(x[..., None] / 17 + y[..., None] / 23 + phases)
    values = values + generator.normal(0, 0.01, (height, width, bands))
    limit = np.iinfo(dtype).max
    return np.clip(np.rint(values * limit), 0, limit).astype(dtype)


@pytest.fixture
def make_photo(tmp_path):
    """Write a photo file: kind, type, alpha and metadata to order; gives (path, stored pixels)."""

    def make(name, *, kind="rgb", dtype=np.uint8, alpha=False, size=(61, 83), metadata=None, **options):
        pixels = smooth_pixels(*size, BANDS[kind] + alpha, dtype)
        image = pyvips.Image.new_from_array(pixels)
        image = image.copy(interpretation=INTERPRETATIONS[kind, np.dtype(dtype).itemsize])
        for field, (kind_of_field, value) in (metadata or {}).items():
            image.set_type(kind_of_field, field, value)
        path = tmp_path / name
        saver, defaults = SAVERS[path.suffix]
        getattr(image, saver)(str(path), **{**defaults, **options})
        return path, pixels

    return make
