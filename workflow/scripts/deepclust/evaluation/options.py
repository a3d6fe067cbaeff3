"""Options of the evaluation stage.

`evaluate` takes `ScoringOptions`, `probe` takes `ProbeOptions`, `score_snapshots` these and `SnapshotOptions`.
"""

from pydantic import Field

from deepclust.core.options import Options

NEAREST = 20  # neighbors that clusters are judged by, at most: small classes have few images of their own


class ProbeOptions(Options):
    """Measurement of the ceilings on the same features: k-NN and linear probe."""

    knn: int = Field(20, ge=1)
    """Neighbors that vote in the k-NN probe."""
    l2: float = Field(1e-5, gt=0)
    """Strength of the L2 penalty of the linear probe, per image: mean cross-entropy + l2/2 · ‖W‖² on features of unit
    mean square length."""
    samples: int = Field(100_000, ge=100)
    """Images that the linear probe is fitted on, and images that both probes are scored on, at most; a fixed random
    sample is used if there are more. k-NN always searches all training images."""


class ScoringOptions(Options):
    """Summary of the scores of a run."""

    bootstrap: int = Field(1000, ge=0)
    """Resamples of the images behind the confidence intervals; 0: no intervals."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Coverage of the confidence intervals."""


class SnapshotOptions(Options):
    """Scores of the snapshots of a training, beside k-NN and k-means."""

    linear: bool = False
    """Fit the linear probe on the features of every snapshot as well."""


class LayerProbeOptions(Options):
    """Linear probes of the stages of a network."""

    dimension: int = Field(9600, ge=1)
    """Values per image behind each stage, at most: its maps are averaged over a grid that gives about so many."""
    l2: float = Field(1e-5, gt=0)
    """Strength of the L2 penalty, per image, as in `probe`."""
    samples: int = Field(100_000, ge=100)
    """Images that a classifier is fitted on, and images that it is scored on, at most."""


class ProbedLayersOptions(LayerProbeOptions):
    """Networks whose stages are probed, and the probes."""

    backbones: list[str] = Field([])
    """Backbones to fit a linear classifier behind each stage of: convolutional networks and vision transformers, whose
    stages are their blocks."""


class EvaluationOptions(ScoringOptions):
    """Scores of the runs."""

    layer_probe: ProbedLayersOptions = ProbedLayersOptions()
    """Linear probes: how well a network's features at each stage tell the labels, with supervision."""

    probe: ProbeOptions = ProbeOptions()
    """The ceilings: how well the same features tell the labels, with supervision."""
    snapshots: SnapshotOptions = SnapshotOptions()
    """Scores over the epochs of a pretraining (`snapshot_every`)."""


class SnapshotScoringOptions(ProbeOptions, SnapshotOptions):
    """Scores of snapshots: the probe's options, and their own."""
