"""Gallery of a run: a random sample of images of each cluster, with outlined errors if there are labels."""

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from pydantic import Field

from deepclust.core.figures import FigureFacts
from deepclust.core.options import Options as BaseOptions
from deepclust.core.scores import show_share
from deepclust.core.seeding import derive_seed
from deepclust.reporting.run_view import RunView
from deepclust.reporting.runs import NO_CLASS, ScoredRun
from deepclust.reporting.scored import Scored
from deepclust.reporting.style import DPI, ERROR, INK, LONGEST_NAME, MUTED, new_figure, printable, widest

FACTS = FigureFacts(
    title="Gallery",
    scope="run",
    reads=("metrics", "clusters", "images", "manifests", "labels"),
    explanation="Random images of the clusters; outlined ones are not of the cluster's class.",
    reading="They were chosen neither for being typical nor for being right: look for what outlined images have in "
    "common with their cluster.",
    without_labels=("Gallery", "Random images of the clusters."),
    order=12,
)

# Pixels of the figure
_THUMBNAIL = 96
_GAP = 12
_OUTLINE = 5
_TEXT = 400  # at least
_MARGIN = 16
_HEADER = 108

# Points
_TITLE_SIZE = 8.5
_DETAIL_SIZE = 7


class Options(BaseOptions):
    """Options of the gallery."""

    gallery_images: int = Field(12, ge=1, le=50)
    """Images per cluster in the gallery, a fixed random sample of the cluster."""
    gallery_clusters: int = Field(20, ge=1, le=100)
    """Clusters in the gallery at most, chosen evenly from the largest to the smallest."""


def draw(of: RunView, options: Options) -> Figure:
    """Draw the run."""
    return gallery(of.run, of.scored, options.gallery_images, options.gallery_clusters)


def gallery(run: ScoredRun, scored: Scored, images: int, most_clusters: int) -> Figure:
    """Draw a row per cluster of the selected seed: its number, size and matched class, and a sample of its images.

    Args:
        images: images per cluster.
        most_clusters: rows at most; if there are more clusters, they are taken evenly from the largest to the smallest.
    """
    shown = _choose(run, scored, most_clusters)
    texts = {cluster: _describe(run, scored, cluster) for cluster in shown}
    text = max(_TEXT, 2 * _MARGIN + round(DPI * _text_width(list(texts.values()))))
    heading = _heading(run, scored, len(shown))
    width = max(text + images * (_THUMBNAIL + _GAP), 2 * _MARGIN + round(DPI * widest(heading)))
    height = _HEADER + len(shown) * (_THUMBNAIL + 2 * _GAP)
    figure = new_figure(width / DPI, height / DPI, layout=None)
    for row, cluster in enumerate(shown):
        top = _HEADER + row * (_THUMBNAIL + 2 * _GAP)
        members = np.flatnonzero(scored.assignments == cluster)
        for column, index in enumerate(_sample(members, images, run.path, cluster)):
            left = text + column * (_THUMBNAIL + _GAP)
            tile = _tile(scored.decode(int(index)), _is_error(run, cluster, int(scored.labels[index])))
            # One pixel of the tile is one pixel of the file, so that small images stay sharp.
            figure.figimage(tile, left - _OUTLINE, height - top - _THUMBNAIL - _OUTLINE, zorder=-1)
        _write(figure, *texts[cluster], (top + _THUMBNAIL / 2) / height)
    indent = _MARGIN / width
    figure.text(indent, 1 - 22 / height, heading[0], va="top", fontsize=9, fontweight="bold")
    figure.text(indent, 1 - 56 / height, heading[1], va="top", fontsize=8, color=MUTED)
    return figure


def _choose(run: ScoredRun, scored: Scored, most: int) -> list[int]:
    order = run.chosen.cluster_order()
    if len(order) <= most:
        return order
    by_size = np.argsort(-np.bincount(scored.assignments, minlength=len(order)), kind="stable")
    kept = set(by_size[np.linspace(0, len(order) - 1, most).round().astype(int)].tolist())
    return [cluster for cluster in order if cluster in kept]


def _sample(members: npt.NDArray[np.intp], count: int, run: str, cluster: int) -> npt.NDArray[np.intp]:
    generator = np.random.default_rng(derive_seed("gallery", run, cluster))
    return generator.permutation(members)[:count]


def _is_error(run: ScoredRun, cluster: int, label: int) -> bool:
    """Tell whether ACC counts the image as wrong; images without a label are not counted."""
    return label >= 0 and bool(run.chosen.matching) and run.chosen.matching[cluster] != label


def _tile(image: npt.NDArray[np.uint8], outlined: bool) -> npt.NDArray[np.uint8]:
    """Return `image`, [C, H, W], in the middle of its square, with its outline.

    It is shrunk smoothly, or enlarged to visible pixels.

    Returns:
        uint8 [T, T, 3], T = _THUMBNAIL + 2 * _OUTLINE.
    """
    pixels = np.repeat(image, 3, axis=0) if len(image) == 1 else image
    height, width = pixels.shape[1:]
    scale = _THUMBNAIL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    thumbnail = np.asarray(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).resize(size, resampling))
    side = _THUMBNAIL + 2 * _OUTLINE
    color = np.round(255 * np.asarray(to_rgb(ERROR if outlined else "white"))).astype(np.uint8)
    tile = np.broadcast_to(color, (side, side, 3)).copy()
    square = tile[_OUTLINE:-_OUTLINE, _OUTLINE:-_OUTLINE]
    square[:] = 255
    x, y = (_THUMBNAIL - size[0]) // 2, (_THUMBNAIL - size[1]) // 2
    square[y : y + size[1], x : x + size[0]] = thumbnail
    return tile


def _describe(run: ScoredRun, scored: Scored, cluster: int) -> tuple[str, str]:
    """Return title and detail of a cluster."""
    labels = scored.labels[scored.assignments == cluster]
    known = labels[labels >= 0]
    title, detail = f"cluster {cluster}", f"{len(labels):,} image{'' if len(labels) == 1 else 's'}"
    if run.chosen.matching and scored.labelled:
        matched = run.chosen.matching[cluster]
        if matched == NO_CLASS:
            detail += ", no class"
        else:
            title = printable(run.classes[matched], LONGEST_NAME)
            detail = f"cluster {cluster}: {detail}"
            if len(known):
                detail += f", {show_share((known == matched).mean(), 0)} % right"
    return title, detail


def _text_width(texts: list[tuple[str, str]]) -> float:
    """Return the inches that titles and details take."""
    titles, details = zip(*texts)
    return max(widest(titles, _TITLE_SIZE, "bold"), widest(details, _DETAIL_SIZE))


def _write(figure: Figure, title: str, detail: str, center: float) -> None:
    left, up, half_line = _MARGIN / DPI / figure.get_figwidth(), 1 - center, 5 / DPI / figure.get_figheight()
    figure.text(left, up + half_line, title, va="bottom", color=INK, fontsize=_TITLE_SIZE, fontweight="bold")
    figure.text(left, up - half_line, detail, va="top", color=MUTED, fontsize=_DETAIL_SIZE)


def _heading(run: ScoredRun, scored: Scored, shown: int) -> tuple[str, str]:
    """Return the title of the figure, and its explanation, which is the longer one."""
    total = len(run.chosen.sizes)
    what = "every cluster" if shown == total else f"{shown} of {total:,} clusters of all sizes"
    explanation = f"seed {run.selected}"
    if run.chosen.matching and scored.labelled:
        explanation += "; a cluster has the name of its matched class, outlined images are of another class"
    return f"Random images of {what}", explanation
