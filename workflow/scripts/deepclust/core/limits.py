"""Limits that the plan knows before anything runs, and that a command holds itself to; needs no torch."""

import math

LONGEST_FILE_NAME = 255  # bytes, on all common file systems
SUBSAMPLE_SHARE = 0.8  # of the sample that `choose_k` looks at, in each subsample between which stability is measured


def most_clusters(images: int) -> int:
    """Return the largest k that can be tried on a sample of so many images: each cluster needs one in a subsample."""
    return int(SUBSAMPLE_SHARE * images)


def shorter_side(size: int, crop_fraction: float) -> int:
    """Return the pixels of the shorter side of an image whose centre is then cropped to `size`."""
    return math.floor(size / crop_fraction)
