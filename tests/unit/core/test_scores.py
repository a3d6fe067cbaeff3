import pytest

from deepclust.core.scores import show, show_share


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.3625, "acc", "36.3"),  # 36.25: a half, and an even digit before it
        (0.36250000000000004, "acc", "36.3"),  # what a mean of 0.36125 and 0.36375 is
        (0.36249999999999993, "acc", "36.3"),
        (0.3624, "acc", "36.2"),
        (-0.0625, "ari", "-6.3"),
        (-0.0001, "ari", "0.0"),
        (1.0, "nmi", "100.0"),
        (0.2135, "silhouette", "0.214"),
        (0.2125, "silhouette", "0.213"),
        (None, "acc", ""),
    ],
)
def test_halves_are_rounded_away_from_zero(value, metric, text):
    assert show(value, metric) == text


def test_shares_with_signs_and_without_digits():
    assert [show_share(share, sign=True) for share in (0.0125, 0.0, -0.0004, -0.0125)] == [
        "+1.3",
        "+0.0",
        "+0.0",
        "-1.3",
    ]
    assert [show_share(share, 0) for share in (0.005, 0.025, 0.0249)] == ["1", "3", "2"]
