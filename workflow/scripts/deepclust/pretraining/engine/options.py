"""Options that all pretraining methods share; a method derives its own from `PretrainingOptions`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deepclust.core.options import Options

Probability = Annotated[float, Field(ge=0, le=1)]
Architecture = Literal["resnet10_w32", "resnet18", "resnet34", "resnet50", "alexnet_bn", "vgg16_bn"]
Optimizer = Literal["sgd", "lars", "larc", "adam", "adamw"]


class AugmentationOptions(Options):
    """Augmentation of a view of an image.

    Crop, flip, colour jitter, grey, blur (Chen et al. 2020, appendix A) and solarisation (Grill et al. 2020, appendix
    B).
    """

    crop_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.2, 1.0)
    """Range of the crop's share of the image's area."""
    crop_ratio: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (3 / 4, 4 / 3)
    """Range of the crop's aspect ratio (width / height) before it is resized."""
    flip_probability: Probability = 0.5
    """Probability of a horizontal flip."""
    jitter_probability: Probability = 0.8
    """Probability that brightness, contrast, saturation and hue are changed."""
    brightness: float = Field(0.4, ge=0, le=1)
    """Brightness is multiplied by a factor from [1 - brightness, 1 + brightness]."""
    contrast: float = Field(0.4, ge=0, le=1)
    """Contrast is multiplied by a factor from [1 - contrast, 1 + contrast]."""
    saturation: float = Field(0.4, ge=0, le=1)
    """Saturation is multiplied by a factor from [1 - saturation, 1 + saturation]; colour images only."""
    hue: float = Field(0.1, ge=0, le=0.5)
    """Hue is shifted by up to this share of the colour circle; colour images only."""
    grayscale_probability: Probability = 0.2
    """Probability that colours are removed; colour images only."""
    blur_probability: Probability = 0.0
    """Probability of a Gaussian blur."""
    blur_sigma: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels of the view."""
    solarize_probability: Probability = 0.0
    """Probability that all values in the upper half of the range are inverted."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [smallest, largest], got [{low}, {high}]")
        return self


class SmallCropOptions(Options):
    """Additional small views of small parts of an image (multi-crop; Caron et al. 2020, arXiv 2006.09882)."""

    count: int = Field(0, ge=0)
    """Number of small views."""
    size: int = Field(96, ge=4)
    """Side of a small view in pixels."""
    crop_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.05, 0.14)
    """Range of a small view's share of the image's area."""


class MethodFacts(Options):
    """Facts about a method that planning reads."""

    native_k: str | None = None
    """Name of the option that holds the number of clusters of its own clustering; None if it has none."""
    needs_neighbors: bool = False
    """True if it reads the neighbors in the features of the backbone that it starts from."""
    needs_clusters: bool = False
    """True if it goes on with the clusters of the backbone that it starts from."""


class PretrainingOptions(Options):
    """Options of every pretraining method."""

    dataset: str
    """Dataset whose images train the backbone; it may differ from the one that is clustered."""
    splits: list[str] = Field(["train"], min_length=1)
    """Splits of the dataset to train on, together."""
    start_from: str | None = None
    """Backbone whose weights training starts from; it must have the same architecture."""
    architecture: Architecture = "resnet18"
    """Network. AlexNet and VGG-16 are made for images of 224 pixels; their dropout is active in deepcluster only."""
    stem: Literal["cifar", "stl", "imagenet"] = "cifar"
    """First layers of a ResNet: `cifar` for images around 32 pixels, `stl` around 96, `imagenet` around 224."""
    sobel: bool = False
    """Show the network the edges of the grey image (Sobel's filters) instead of its colours."""
    image_size: int | None = Field(None, ge=4)
    """Side in pixels of the images that the network sees. Without it images stay as they are; those of varying sizes
    need it."""
    epochs: int = Field(500, ge=1)
    """Passes over the images."""
    batch_size: int = Field(512, ge=2)
    """Images per step; those left over at the end of an epoch wait for another epoch's order."""
    optimizer: Optimizer = "sgd"
    """Optimizer. LARS is SGD with momentum and steps scaled per layer, for large batches. LARC is LARS whose steps are
    never longer than those of SGD."""
    learning_rate: float = Field(0.4, gt=0)
    """Highest learning rate; it falls to 0 along a half cosine."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of SGD, LARS and LARC; Adam and AdamW do not use it."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay, on all parameters."""
    trust: float = Field(1e-3, gt=0)
    """Length of a layer's step relative to that of its weights, at learning rate 1; of LARS and LARC."""
    scale_vectors: bool = False
    """Let LARS and LARC decay and scale biases and the weights of normalisation as they do all other layers."""
    warmup_epochs: float = Field(0, ge=0)
    """Epochs over which the learning rate first rises from 0."""
    seed: int = Field(0, ge=0)
    """Seed of the initial weights, the order of the images and the augmentation."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Number format of the network's computations; `auto` is bf16 if the hardware is fast at it."""
    compile: Literal["auto"] | bool = "auto"
    """Compile the network (torch.compile); `auto` compiles on a GPU if there is a compiler. Compilation takes about a
    minute at the start and needs a C compiler. A network that several processes train is not compiled."""
    snapshot_every: int = Field(0, ge=0)
    """Number of epochs between two snapshots of the backbone; 0 for none. The report scores them over epochs; the start
    and the end are kept too. The training does not depend on it."""
    sync_batch_norm: bool = True
    """Let batch normalisation see all images of a batch that several GPUs share; if false, each GPU sees its own."""
    resume_from: str | None = None
    """State to continue from even if the code or the options changed: a `.state-...` folder or a file in it."""
