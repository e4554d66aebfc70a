"""A folder of drawn people with templates, and a parser that learnt them."""

import numpy as np
import pytest

COLOURS = ((0.78, 0.58, 0.49), (0.33, 0.21, 0.15), (0.62, 0.45, 0.36), (0.85, 0.68, 0.6))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Prepared portraits are kept beside the tests and not with the user's."""
    folder = tmp_path_factory.mktemp("cache") / "faces"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retouch_common.parsing.portraits.default_cache", lambda: folder)
        yield


@pytest.fixture(scope="session")
def people(draw_person, tmp_path_factory, cache):
    """Twelve people, two of them held out."""
    folder = tmp_path_factory.mktemp("people")
    for number in range(12):
        draw_person(COLOURS[number % 4], seed=number).save(folder / "set" / f"{number:02}.png", with_template=True)
    return f"faces:{folder}"


@pytest.fixture(scope="session")
def agreement():
    def share(labels, truth):
        """Intersection over union of two masks."""
        labels, truth = np.asarray(labels) > 0, np.asarray(truth) > 0
        return (labels & truth).sum() / max(1, (labels | truth).sum())

    return share
