"""Scores as people read them: rounded here and nowhere else, so that a score has the same digits wherever it stands."""

from decimal import ROUND_HALF_UP, Decimal


def scale(metric: str) -> float:
    """Return the factor by which a score is shown: all but the silhouette are shares, shown in percent."""
    return 1.0 if metric == "silhouette" else 100.0


def show(value: float | None, metric: str) -> str:
    """Return a score as text, `83.1` percent or a silhouette of `0.213`; nothing for None."""
    if value is None:
        return ""
    return f"{_rounded(value, 3):f}" if metric == "silhouette" else show_share(value)


def show_share(share: float, digits: int = 1, sign: bool = False) -> str:
    """Return a share in percent without the character for it; `sign` puts `+` before shares that are not negative."""
    return f"{_rounded(share, digits + 2).scaleb(2):{'+' if sign else ''}f}"


def _rounded(value: float, digits: int) -> Decimal:
    """Return `value` with so many digits after the point, halves away from zero.

    Digits after the ninth are errors of sums, and files have no more of them: 0.36250000000000004 is a half, too.
    """
    exact = Decimal(f"{value:.9f}")
    return exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) + 0  # no negative zero
