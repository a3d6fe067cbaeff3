"""Deep image clustering: features, clustering heads and scores, in memory.

    import deepclust

    features = deepclust.extract("photos/", backbone="dinov2-vits14")
    clusters = deepclust.cluster(features, 10, head="temi").labels_

Whole experiments are a Snakemake workflow, which computes with the same functions. Importing this loads none of them.
"""

import importlib
from typing import Any

_PUBLIC = {
    "Clusterer": "deepclust.api.estimator",
    "ClusterResult": "deepclust.api.clustering",
    "FittedHead": "deepclust.api.clustering",
    "cluster": "deepclust.api.clustering",
    "extract": "deepclust.api.extraction",
    "images": "deepclust.api.extraction",
    "load": "deepclust.api.clustering",
    "score": "deepclust.api.scoring",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'deepclust' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
