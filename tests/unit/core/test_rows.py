import numpy as np
import pytest

from deepclust.core.rows import evenly_spread


@pytest.mark.parametrize("total", [1, 7, 256, 20_000_001, 95_000_000])
def test_rows_that_are_chosen_are_there(total):
    chosen = evenly_spread(total, 256)
    assert len(chosen) == min(256, total)
    assert chosen[0] == 0 and chosen[-1] == total - 1
    assert (np.diff(chosen) > 0).all()
