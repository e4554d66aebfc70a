import numpy as np
from abpn.streaming import plan_stripes
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 3000), st.integers(1, 700), st.sampled_from([1, 2, 16]), st.integers(0, 100))
def test_written_parts_tile_the_axis_and_reads_are_aligned(length, step, align, halo):
    windows = plan_stripes(length, step, align=align, halo=halo)
    assert [w.start for w in windows] == [0, *[w.stop for w in windows[:-1]]]
    assert windows[-1].stop == length
    for w in windows:
        assert w.start % align == 0 and w.read_start % align == 0
        assert w.read_start == 0 or w.start - w.read_start >= halo
        assert w.read_stop == length or w.read_stop - w.stop >= halo
        assert 0 <= w.read_start <= w.start < w.stop <= w.read_stop <= length


def test_windows_give_the_same_result_as_the_whole_axis():
    signal = np.random.default_rng(0).normal(size=301)
    kernel = np.ones(7)
    whole = np.convolve(signal, kernel, mode="same")
    parts = [
        np.convolve(signal[w.read_start : w.read_stop], kernel, mode="same")[w.inner]
        for w in plan_stripes(301, 40, align=4, halo=3)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole)
