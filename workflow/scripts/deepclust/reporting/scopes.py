"""The files that figures are drawn from: those of a run, of a setting, or of the whole experiment.

A figure gets those that the `reads` of its `FACTS` name; the fields of others are empty.
"""

from pathlib import Path

from deepclust.core.command import Files


class RunFiles(Files):
    """Files of one run; those of several splits are in the order in which they were scored."""

    metrics: Path
    """`metrics.json` of the run."""
    clusters: Path | None = None
    """`clusters.safetensors` of the run."""
    images: list[Path] = []
    """`images.bin` of the scored splits."""
    manifests: list[Path] = []
    """`images.json` of the scored splits."""
    labels: list[Path] = []
    """`labels.npy` of the scored splits."""
    map: Path | None = None
    """Map of the features."""


class SettingFiles(Files):
    """Files of a dataset, backbones and a protocol."""

    choice: Path | None = None
    """The result of `choose_k`, if runs of the setting leave the number of clusters open."""
    probe: Path | None = None
    """The ceilings on the same features, the result of `probe`."""
    map: Path | None = None
    """Map of the features."""


class ExperimentFiles(Files):
    """Files of the whole experiment."""

    metrics: list[Path] = []
    """`metrics.json` of every run."""
    logs: list[Path] = []
    """`training.jsonl` of every pretrained backbone; the folder of each is the backbone's name."""
    scores: list[Path] = []
    """`snapshots.json` of every dataset and backbone; the names of both are those of its folders."""
    tables: list[Path] = []
    """`layers.csv` of each backbone, in a folder named after it, in one named after the dataset."""
