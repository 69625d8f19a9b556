"""Samples are drawn by a seed alone."""

import numpy as np

from moraine.engine.lots import Lots


def test_the_same_seed_draws_the_same_however_it_is_asked() -> None:
    whole = Lots("session", 3).draw(1000)
    again = Lots("session", 3)
    assert np.concatenate([again.draw(1), again.draw(0), again.draw(999)]).tolist() == whole.tolist()
    assert Lots("session", 4).draw(1000).tolist() != whole.tolist()
    assert Lots("session3").draw(1)[0] != whole[0]


def test_numbers_are_even_between_zero_and_one() -> None:
    drawn = Lots("seed").draw(100_000)
    assert drawn.min() >= 0 and drawn.max() < 1
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    assert (abs(counts - 5000) < 400).all(), counts  # more than five standard deviations
    for share in (0.0, 0.001, 0.05, 1.0):
        assert abs(np.count_nonzero(drawn < share) - 100_000 * share) < 400
