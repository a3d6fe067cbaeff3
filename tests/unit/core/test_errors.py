"""How messages name some of many things."""

import pytest

from deepclust.core.errors import some_of


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d", "e"], "a, b and 3 more")]
)
def test_some_of(names, text):
    assert some_of(names, 2) == text
