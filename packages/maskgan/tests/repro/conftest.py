"""One training run that the tests of this folder compare with."""

import pytest
from retouch_common.testing.training_runs import train


@pytest.fixture(scope="session")
def train_tiny(faces, parser_weights):
    """Train in a fresh process, with further options, in a folder."""

    def run(out, *options, **how):
        return train("maskgan", faces, out, options=("--set", f"train.parser={parser_weights}", *options), **how)

    return run


@pytest.fixture(scope="session")
def run(train_tiny, tmp_path_factory):
    """Twenty steps at once."""
    return train_tiny(tmp_path_factory.mktemp("run") / "a")
