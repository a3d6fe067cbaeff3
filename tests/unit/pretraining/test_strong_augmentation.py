import math

import pytest
import torch
from scipy.stats import chisquare, kstest

from deepclust.models.torchvision_ops import declare_missing_operators
from deepclust.pretraining.views import geometry, tone
from deepclust.pretraining.views.strong_augmentation import (
    OPERATIONS,
    StrongAugmentation,
    StrongAugmentationOptions,
    apply_operations,
    cutout,
    draw_operations,
)

declare_missing_operators()
F = pytest.importorskip("torchvision.transforms.functional")
NEAREST = pytest.importorskip("torchvision.transforms").InterpolationMode.NEAREST


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_images(count=6, channels=3, size=(11, 14)):
    """Float images of whole grey levels, one of them flat."""
    images = torch.randint(0, 256, (count, channels, *size), generator=generator())
    images[1] = images[1] // 3 + 40
    images[2] = 77
    return images / 255


def uint8(image):
    return (image * 255).round().byte()


def same(result, expected):
    """Equal up to rounding, but for the few pixels that lie between two and may be taken from either."""
    return ((result - expected).abs() > 1e-4).float().mean() < 0.02


def test_rotations_agree_with_torchvision():
    images, degrees = some_images(), torch.tensor([-30.0, -7, 0, 11, 29, 57])
    for image, angle, result in zip(images, degrees, geometry.affine(images, geometry.rotation(degrees))):
        assert same(result, F.rotate(image, angle.item(), NEAREST))


def test_shears_and_shifts_agree_with_torchvision():
    images, amounts = some_images(), torch.tensor([-0.31, -0.05, 0.0, 0.08, 0.1, 0.27])
    size, zero, whole = images.shape[-2:], torch.zeros(6), torch.tensor([-3.0, -1, 0, 1, 2, 3])
    matrices = {
        0: (geometry.shear(amounts, zero, size), geometry.shift(whole, zero)),
        1: (geometry.shear(zero, amounts, size), geometry.shift(zero, whole)),
    }
    for axis, (sheared, shifted) in matrices.items():
        moved = geometry.affine(images, sheared), geometry.affine(images, shifted)
        for image, amount, pixels, by_shear, by_shift in zip(images, amounts.tolist(), whole.tolist(), *moved):
            shear, translate = [0.0, 0.0], [0, 0]
            shear[axis], translate[axis] = math.degrees(math.atan(amount)), -int(pixels)
            assert same(by_shear, F.affine(image, 0, [0, 0], 1.0, shear, NEAREST, center=[0, 0]))
            assert same(by_shift, F.affine(image, 0, translate, 1.0, [0.0, 0.0], NEAREST))


@pytest.mark.parametrize("channels", [1, 3])
def test_tones_agree_with_torchvision(channels):
    images = some_images(channels=channels)
    bits, factors = torch.tensor([4, 5, 6, 7, 8, 1]), torch.linspace(0, 2, 6)
    results = zip(
        images,
        tone.autocontrast(images),
        tone.equalize(images),
        tone.posterize(images, bits.view(-1, 1, 1, 1)),
        tone.adjust_sharpness(images, factors.view(-1, 1, 1, 1)),
        bits.tolist(),
        factors.tolist(),
    )
    for image, contrasted, equalized, posterized, sharpened, bit, factor in results:
        assert torch.allclose(contrasted, F.autocontrast(image), atol=1e-6)
        assert torch.equal(uint8(equalized), F.equalize(uint8(image)))
        assert torch.equal(uint8(posterized), F.posterize(uint8(image), bit))
        assert torch.allclose(sharpened, F.adjust_sharpness(image, factor), atol=1e-6)
    tiny = torch.rand(2, 3, 2, 5)
    assert torch.equal(tone.adjust_sharpness(tiny, torch.zeros(2, 1, 1, 1)), tiny)


def by_torchvision(name, image, value):
    """One operation on one image."""
    height, width = image.shape[-2:]
    angle = math.degrees(math.atan(value))
    straight = {"translate": [0, 0], "scale": 1.0, "interpolation": NEAREST}
    return {
        "identity": lambda: image,
        "autocontrast": lambda: F.autocontrast(image),
        "equalize": lambda: F.equalize(uint8(image)) / 255,
        "rotate": lambda: F.rotate(image, value, NEAREST),
        "solarize": lambda: F.solarize(image, value) if value <= 1 else image,
        "saturation": lambda: F.adjust_saturation(image, value),
        "contrast": lambda: F.adjust_contrast(image, value),
        "brightness": lambda: F.adjust_brightness(image, value),
        "sharpness": lambda: F.adjust_sharpness(image, value),
        "shear_x": lambda: F.affine(image, 0, shear=[angle, 0.0], center=[0, 0], **straight),
        "shear_y": lambda: F.affine(image, 0, shear=[0.0, angle], center=[0, 0], **straight),
        "shift_x": lambda: F.affine(image, 0, shear=[0.0, 0.0], **straight | {"translate": [-value * width, 0]}),
        "shift_y": lambda: F.affine(image, 0, shear=[0.0, 0.0], **straight | {"translate": [0, -value * height]}),
        "posterize": lambda: F.posterize(uint8(image), int(value)) / 255,
    }[name]()


def test_each_image_gets_the_operation_it_drew():
    images = some_images(3 * len(OPERATIONS))
    chosen = torch.arange(len(OPERATIONS)).repeat(3)
    position = torch.rand(len(images), generator=generator(1))
    results = apply_operations(images, chosen, position)
    for image, index, where, result in zip(images, chosen, position.tolist(), results):
        name, (low, high) = list(OPERATIONS.items())[index]
        assert same(result, by_torchvision(name, image, low + (high - low) * where)), name


def augment(images, seed=0, size=(16, 16), **options):
    channels = images.shape[1]
    return StrongAugmentation(StrongAugmentationOptions(**options), size, [0.5] * channels, [0.25] * channels)(
        images, seed
    )


def test_cutout_has_random_squares():
    ones = torch.ones(3000, 2, 20, 24)
    holes = cutout(ones, 8, generator()) == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    heights, widths = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(holes[:, 0].sum((1, 2)), heights * widths)
    assert max(heights.max(), widths.max()) == 8
    inner = holes[:, 0, 8:12, 8:12].any(2).any(1)
    sides = heights[inner & (heights == widths)].unique().tolist()
    assert sides == [2, 4, 6, 8]
    assert (heights == 0).float().mean().item() == pytest.approx(1 / 8, abs=0.03)  # a side of 1 is none
    expected = sum(min(20, y + n // 2) - max(0, y - n // 2) for n in range(1, 9) for y in range(20)) / (8 * 20)
    assert heights.float().mean().item() == pytest.approx(expected, rel=0.05)


def test_without_operations_views_are_the_images():
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=generator())
    views = augment(images, flip_probability=0, operations=0, cutout=0)
    assert torch.allclose(views, (images / 255 - 0.5) / 0.25, atol=1e-4)
    assert views.is_contiguous(memory_format=torch.channels_last)
    flipped = augment(images, flip_probability=1, operations=0, cutout=0)
    assert torch.allclose(flipped, views.flip(-1), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_views_depend_on_the_seed_alone_and_differ_between_images(channels):
    images = torch.randint(0, 256, (1, channels, 20, 20), dtype=torch.uint8, generator=generator()).expand(
        32, -1, -1, -1
    )
    views = augment(images, seed=3)
    assert views.shape == (32, channels, 16, 16)
    assert torch.equal(views, augment(images, seed=3))
    assert not torch.equal(views, augment(images, seed=4))
    assert len(torch.unique(views.flatten(1), dim=0)) > 28


def test_operations_are_drawn_evenly():
    """Any of the fourteen in each turn, whatever the turn before brought."""
    first, second, *others = draw_operations(7000, 4, seed=0)
    assert len(others) == 2
    for chosen in (first, second, *others):
        assert chisquare(chosen.bincount(minlength=len(OPERATIONS))).pvalue > 0.001
    pairs = (first * len(OPERATIONS) + second).bincount(minlength=len(OPERATIONS) ** 2)
    assert chisquare(pairs).pvalue > 0.001


def test_magnitudes_are_drawn_evenly():
    """The middle of a flat picture of level 100 tells what a single operation did."""
    count, share = 6000, 1 / len(OPERATIONS)
    flat = torch.full((count, 3, 8, 8), 100, dtype=torch.uint8)
    middle = augment(flat, size=(8, 8), operations=1, cutout=0)[:, :, 4, 4] * 0.25 + 0.5
    assert torch.allclose(middle[:, :1], middle, atol=1e-6)
    levels = middle[:, 0] * 255
    darker, inverted, coarse = levels < 95.5, (levels - 155).abs() < 0.1, (levels - 96).abs() < 0.1
    changed = [mask.sum().item() for mask in (darker, inverted, coarse)]
    chances = [share, share * 101 / 256, share / 2]  # brightness; a threshold of at most 100; 4 or 5 bits of 4 to 7
    observed, expected = [*changed, count - sum(changed)], [*chances, 1 - sum(chances)]
    assert chisquare(observed, [count * chance for chance in expected]).pvalue > 0.001
    assert kstest((levels[darker] / 100).numpy(), "uniform", (0.05, 0.9)).pvalue > 0.001


def test_operations_follow_one_another():
    """Of n operations in a row each may leave an image as it is, or hardly so."""
    images = torch.randint(0, 256, (3000, 3, 8, 8), dtype=torch.uint8, generator=generator())
    plain = augment(images, size=(8, 8), flip_probability=0, operations=0, cutout=0)
    unchanged = {}
    for number in (1, 2, 3):
        views = augment(images, size=(8, 8), flip_probability=0, operations=number, cutout=0)
        unchanged[number] = ((views - plain).abs().amax((1, 2, 3)) < 1e-3).float().mean().item()
    assert 1 / 14 < unchanged[1] < 1 / 2
    for number in (2, 3):
        chance = unchanged[1] ** number
        assert unchanged[number] == pytest.approx(chance, abs=5 * math.sqrt(chance / 3000))


def test_as_many_views_are_flipped_as_asked_for():
    images = torch.randint(0, 256, (1, 1, 8, 8), dtype=torch.uint8, generator=generator()).expand(4000, -1, -1, -1)
    mirrored = (images.flip(-1) / 255 - 0.5) / 0.25
    for chance in (0.5, 0.2):
        views = augment(images, size=(8, 8), flip_probability=chance, operations=0, cutout=0)
        flipped = ((views - mirrored).abs().amax((1, 2, 3)) < 1e-3).float().mean().item()
        assert flipped == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 4000))
