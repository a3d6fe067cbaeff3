"""Options of the evaluation stage.

`evaluate` takes `ScoringOptions`, `probe` takes `ProbeOptions`, `score_snapshots` these and `SnapshotOptions`.
"""

from pydantic import Field

from deepclust.core.options import Options

NEAREST = 20  # neighbors that clusters are judged by, at most: small classes have few images of their own


class ProbeOptions(Options):
    """How the ceilings on the same features are measured: k-NN and linear probe."""

    knn: int = Field(20, ge=1)
    """Neighbors that vote in the k-NN probe."""
    l2: float = Field(1e-5, gt=0)
    """Strength of the L2 penalty of the linear probe, per image: mean cross-entropy + l2/2 · ‖W‖² on features of unit
    mean square length."""
    samples: int = Field(100_000, ge=100)
    """Images that the linear probe is fitted on, and images that both probes are scored on, at most; of more, a fixed
    random sample is used. k-NN always searches all training images."""


class ScoringOptions(Options):
    """How the scores of a run are summarised."""

    bootstrap: int = Field(1000, ge=0)
    """Resamples of the images behind the confidence intervals; 0: no intervals."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Coverage of the confidence intervals."""


class SnapshotOptions(Options):
    """How the snapshots of a training are scored, beside k-NN and k-means."""

    linear: bool = False
    """Whether the linear probe is fitted on the features of every snapshot as well."""


class LayerProbeOptions(Options):
    """How labels are read off the stages of a network."""

    dimension: int = Field(9600, ge=1)
    """Values per image behind each stage, at most: its maps are averaged over a grid that gives about so many."""
    l2: float = Field(1e-5, gt=0)
    """Strength of the L2 penalty, per image, as in `probe`."""
    samples: int = Field(100_000, ge=100)
    """Images that a classifier is fitted on, and images that it is scored on, at most."""


class ProbedLayersOptions(LayerProbeOptions):
    """Which networks are read off at each stage, and how."""

    backbones: list[str] = Field([])
    """Backbones to fit a linear classifier behind each stage of: convolutional networks and vision transformers, whose
    stages are their blocks."""


class EvaluationOptions(ScoringOptions):
    """How runs are scored."""

    layer_probe: ProbedLayersOptions = ProbedLayersOptions()
    """How well labels can be read off each stage of a network with supervision."""

    probe: ProbeOptions = ProbeOptions()
    """The ceilings: how well labels can be read off the same features with supervision."""
    snapshots: SnapshotOptions = SnapshotOptions()
    """Scores over the epochs of a pretraining (`snapshot_every`)."""


class SnapshotScoringOptions(ProbeOptions, SnapshotOptions):
    """How snapshots are scored: the probe's options, and their own."""
