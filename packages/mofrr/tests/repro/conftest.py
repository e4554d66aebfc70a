"""One training run of an expert that the tests of this folder compare with."""

import pytest
from retouch_common.testing.training_runs import Run, draw_pairs, train

OPTIONS = ("expert", "--operation", "white", "--set", "model.degree=false")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Pairs in RetouchingFFHQ's layout: what spots the raw ones have is what the expert is to take off."""
    folder = tmp_path_factory.mktemp("faces")
    draw_pairs(folder / "drawn")
    for part, name in (("target", "ori"), ("raw", "Whitening_60")):
        for number, file in enumerate(sorted((folder / "drawn" / part).iterdir())):
            split = folder / name / ("train" if number < 16 else "val")
            split.mkdir(parents=True, exist_ok=True)
            file.rename(split / file.name)
    return folder


@pytest.fixture(scope="session")
def train_tiny(data):
    """Train in a fresh process, with further options, in a folder."""

    def run(out, *options, **how):
        train("mofrr", data, out, options=(*OPTIONS, *options), **how)
        return Run(out / "expert-white")

    return run


@pytest.fixture(scope="session")
def run(train_tiny, tmp_path_factory):
    """Twenty steps at once."""
    return train_tiny(tmp_path_factory.mktemp("run") / "a")
