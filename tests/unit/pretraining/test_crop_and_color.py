import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from deepclust.models.torchvision_ops import declare_missing_operators
from deepclust.pretraining.engine.options import AugmentationOptions
from deepclust.pretraining.views import color
from deepclust.pretraining.views.augmentation import SOLARIZE_THRESHOLD, Augmentation
from deepclust.pretraining.views.blur import gaussian_blur, kernel_radius
from deepclust.pretraining.views.crop import random_boxes, resampling_matrices, resized_crop

declare_missing_operators()
F = pytest.importorskip("torchvision.transforms.functional")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=50, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    scale=st.tuples(st.floats(0.01, 0.5), st.floats(0.5, 1)),
    ratio=st.one_of(
        st.tuples(st.floats(0.3, 1), st.floats(1, 3)),
        st.tuples(st.floats(0.01, 0.1), st.floats(0.01, 0.1)).map(sorted),
        st.tuples(st.floats(10, 100), st.floats(10, 100)).map(sorted),
    ),
    seed=st.integers(0, 99),
)
def test_boxes_lie_inside_the_image(size, scale, ratio, seed):
    top, left, height, width = random_boxes(20, size, scale, ratio, generator(seed)).unbind(1)
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= size[0]).all()
    assert (left + width <= size[1]).all()


def test_boxes_have_the_area_and_ratio_asked_for():
    scale, ratio = (0.3, 0.6), (0.8, 1.25)
    boxes = random_boxes(2000, (100, 100), scale, ratio, generator()).double()
    height, width = boxes[:, 2], boxes[:, 3]
    area, aspect = height * width / 1e4, width / height
    assert area.min() > scale[0] - 0.02
    assert area.max() < scale[1] + 0.02
    assert area.mean() == pytest.approx(0.45, abs=0.01)
    assert aspect.min() > ratio[0] - 0.03
    assert aspect.max() < ratio[1] + 0.03
    assert aspect.log().mean() == pytest.approx(0, abs=0.01)
    # Any place is as likely as any other.
    assert (boxes[:, 0] / (100 - height)).mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("scale", "ratio"), [((0.2, 1), (3 / 4, 4 / 3)), ((0.08, 0.5), (0.5, 2))])
def test_boxes_are_distributed_as_torchvisions(scale, ratio):
    """Heights, widths and places of boxes: two-sample Kolmogorov-Smirnov tests, with the seeds fixed."""
    crop = pytest.importorskip("torchvision.transforms").RandomResizedCrop
    torch.manual_seed(0)
    image = torch.empty(1, 60, 90)
    theirs = np.array([crop.get_params(image, list(scale), list(ratio)) for _ in range(2000)])
    ours = random_boxes(2000, (60, 90), scale, ratio, generator()).numpy()
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.01, column


def test_where_no_box_fits_the_largest_central_one_is_taken():
    """A whole image of 10x40 can have no ratio below 2, so torchvision falls back to 10x20 in the middle."""
    boxes = random_boxes(5, (10, 40), (1, 1), (1, 2), generator())
    assert boxes.tolist() == [[0, 10, 10, 20]] * 5


@pytest.mark.parametrize("size", [(16, 24), (48, 50), (7, 7)])
def test_crops_agree_with_torchvision(size):
    images = torch.rand(6, 3, 32, 40, generator=generator())
    boxes = random_boxes(6, (32, 40), (0.05, 1), (0.5, 2), generator())
    crops = resized_crop(images, boxes, size)
    for image, box, crop in zip(images, boxes.tolist(), crops):
        assert torch.allclose(crop, F.resized_crop(image, *box, list(size), antialias=True), atol=1e-5)


def test_flipped_crops_are_mirror_images():
    images, boxes = torch.rand(4, 3, 9, 9), random_boxes(4, (9, 9), (0.5, 1), (1, 1), generator())
    flip = torch.tensor([True, False, True, False])
    plain, flipped = resized_crop(images, boxes, (6, 6)), resized_crop(images, boxes, (6, 6), flip)
    assert torch.allclose(flipped[flip], plain[flip].flip(-1))
    assert torch.allclose(flipped[~flip], plain[~flip])


@given(st.integers(1, 30), st.integers(0, 20), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_resampling_weighs_only_the_crop(length, start, size):
    weights = resampling_matrices(torch.tensor([start]), torch.tensor([length]), start + length + 5, size)
    assert torch.allclose(weights.sum(2), torch.ones(1, size))
    assert weights[..., :start].eq(0).all()
    assert weights[..., start + length :].eq(0).all()


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("adjust_brightness", 1),
        ("adjust_brightness", 3),
        ("adjust_contrast", 1),
        ("adjust_contrast", 3),
        ("adjust_saturation", 3),
    ],
)
def test_color_changes_agree_with_torchvision(name, channels):
    images, factors = torch.rand(8, channels, 5, 6, generator=generator()), torch.linspace(0, 2, 8)
    changed = getattr(color, name)(images, factors.view(-1, 1, 1, 1))
    for image, factor, result in zip(images, factors.tolist(), changed):
        assert torch.allclose(result, getattr(F, name)(image, factor), atol=1e-6)


def test_hue_agrees_with_torchvision():
    images, shifts = torch.rand(9, 3, 5, 6, generator=generator()), torch.linspace(-0.5, 0.5, 9)
    images[:, :, 0] = images[:, :1, 0]  # grey pixels have no hue
    images[:, :, 1] = images[:, :, 1].round()  # pure colours lie on the borders of sextants
    changed = color.adjust_hue(images, shifts.view(-1, 1, 1, 1))
    for image, shift, result in zip(images, shifts.tolist(), changed):
        assert torch.allclose(result, F.adjust_hue(image, shift), atol=1e-5)


def test_grayscale_agrees_with_torchvision():
    images = torch.rand(2, 3, 4, 4)
    assert torch.allclose(color.grayscale(images), F.rgb_to_grayscale(images))


@pytest.mark.parametrize("size", [(9, 16), (5, 4)])
def test_blur_agrees_with_torchvision(size):
    images, sigmas = torch.rand(6, 3, *size, generator=generator()), torch.linspace(0.1, 2, 6)
    applied = torch.tensor([True, True, False, True, True, True])
    blurred = gaussian_blur(images, sigmas, 2.0, applied)
    kernel = [2 * kernel_radius(2.0, side) + 1 for side in (size[1], size[0])]
    for image, sigma, chosen, result in zip(images, sigmas.tolist(), applied, blurred):
        expected = F.gaussian_blur(image, kernel, sigma) if chosen else image
        assert torch.allclose(result, expected, atol=1e-5)
    assert torch.equal(gaussian_blur(images, sigmas, 2.0)[applied], blurred[applied])


def test_blur_reaches_as_far_as_it_has_weight():
    assert kernel_radius(2.0, 32) == 6
    assert kernel_radius(2.0, 4) == 3


def test_solarization_agrees_with_torchvision():
    images = torch.arange(256).view(1, 1, 16, 16) / 255
    solarized = color.solarize(images, SOLARIZE_THRESHOLD)
    assert torch.allclose(solarized, F.solarize(images, SOLARIZE_THRESHOLD))
    assert torch.equal((solarized * 255).round().byte(), F.solarize((images * 255).byte(), 128))


def augment(images, seed=0, size=(8, 8), mean=0.0, std=1.0, **options):
    channels = images.shape[1]
    return Augmentation(AugmentationOptions(**options), size, [mean] * channels, [std] * channels)(images, seed)


OFF = {"crop_scale": (1, 1), "crop_ratio": (1, 1), "flip_probability": 0, "jitter_probability": 0}


def random_images(channels=3, count=32):
    return torch.randint(0, 256, (count, channels, 8, 8), dtype=torch.uint8, generator=generator())


def test_without_any_change_views_are_the_normalised_images():
    images = random_images()
    views = augment(images, mean=0.5, std=0.25, grayscale_probability=0, **OFF)
    assert torch.allclose(views, (images / 255 - 0.5) / 0.25, atol=1e-4)
    assert views.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
def test_views_depend_on_the_seed_alone(channels):
    images = random_images(channels)
    views = augment(images, seed=3, size=(6, 6))
    assert views.shape == (32, channels, 6, 6)
    assert torch.equal(views, augment(images, seed=3, size=(6, 6)))
    assert not torch.equal(views, augment(images, seed=4, size=(6, 6)))


def test_every_image_has_its_own_view():
    images = random_images(count=1).expand(16, -1, -1, -1)
    views = augment(images).flatten(1)
    assert len(torch.unique(views, dim=0)) == 16


def test_probabilities_are_kept():
    images = random_images(count=4000)
    views = augment(images, **OFF | {"flip_probability": 0.3}, grayscale_probability=0)
    flipped = ((views - images.flip(-1) / 255).abs().amax((1, 2, 3)) < 1e-3).float().mean().item()
    assert flipped == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 4000))
    views = augment(images, **OFF, grayscale_probability=0.2)
    gray = (views.std(1).amax((1, 2)) < 1e-3).float().mean().item()
    assert gray == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / 4000))
    views = augment(images, **OFF | {"jitter_probability": 0.7}, grayscale_probability=0)
    changed = ((views - images / 255).abs().amax((1, 2, 3)) > 1e-3).float().mean().item()
    assert changed == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / 4000))
    for name, chance in (("blur_probability", 0.1), ("solarize_probability", 0.3)):
        views = augment(images, **OFF, grayscale_probability=0, blur_sigma=(1, 2), **{name: chance})
        changed = ((views - images / 255).abs().amax((1, 2, 3)) > 1e-3).float().mean().item()
        assert changed == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 4000))


def test_every_blur_has_its_own_strength():
    spot = torch.zeros(500, 1, 15, 15, dtype=torch.uint8)
    spot[..., 7, 7] = 255
    peaks = augment(spot, size=(15, 15), **OFF, blur_probability=1, blur_sigma=(0.5, 2))[:, 0, 7, 7]
    sigmas = torch.linspace(0.5, 2, 100)
    offsets = torch.arange(-6, 7)
    weights = torch.exp(-0.5 * (offsets / sigmas.view(-1, 1)) ** 2)
    expected = (weights[:, 6] / weights.sum(1)) ** 2  # of the middle pixel, in two directions
    assert expected.min() - 1e-3 < peaks.min() < peaks.max() < expected.max() + 1e-3
    assert peaks.mean().item() == pytest.approx(expected.mean().item(), rel=0.1)


def test_ranges_must_be_in_order():
    with pytest.raises(ValueError, match="crop_scale"):
        AugmentationOptions(crop_scale=(0.5, 0.2))
    with pytest.raises(ValueError, match="blur_sigma"):
        AugmentationOptions(blur_sigma=(2, 1))


@pytest.mark.parametrize("change", ["brightness", "contrast", "saturation", "hue"])
def test_jitter_is_distributed_as_torchvisions(change):
    """One colour, changed by factors that both draw for themselves: the distributions of what comes out agree."""
    jitter = pytest.importorskip("torchvision.transforms").ColorJitter
    strength = 0.1 if change == "hue" else 0.4
    picture = torch.tensor([200, 90, 40], dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8).clone()
    picture[:, :4] //= 2  # contrast needs two shades
    off = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}
    images = picture.expand(1500, -1, -1, -1)
    options = OFF | {"jitter_probability": 1, "grayscale_probability": 0} | off | {change: strength}
    ours = augment(images, **options)[:, :, 0, 0].numpy()
    torch.manual_seed(0)
    transform = jitter(**{change: strength})
    theirs = torch.stack([transform(picture / 255)[:, 0, 0] for _ in range(1500)]).numpy()
    for channel in range(3):
        rounded = (values[:, channel].round(4) for values in (ours, theirs))  # where a channel stays, it is equal
        assert ks_2samp(*rounded).pvalue > 0.01, channel
