"""One training run that the tests of this folder compare with."""

import pytest
from retouch_common.testing.training_runs import draw_pairs, train


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    draw_pairs(folder)
    return folder


@pytest.fixture(scope="session")
def train_tiny(data):
    """Train in a fresh process, with further options, in a folder."""
    return lambda out, *options, **how: train("bpfre", data, out, options=options, **how)


@pytest.fixture(scope="session")
def run(train_tiny, tmp_path_factory):
    """Twenty steps at once."""
    return train_tiny(tmp_path_factory.mktemp("run") / "a")
