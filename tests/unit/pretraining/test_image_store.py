import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images, write_encoded, write_raw
from deepclust.core.progress import Progress
from deepclust.pretraining.engine.image_store import ImageStore

CPU = torch.device("cpu")


def open_store(splits, image_size=None, budget=None):
    return ImageStore(splits, image_size, CPU, Progress(), workers=2, budget=budget)


def raw(folder, count, channels=3, side=6, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    write_raw(folder, [pixels], (channels, side, side))
    return Images(folder), pixels


def encoded(folder, shapes, kind="PNG"):
    generator = np.random.default_rng(0)
    pictures, files = [], []
    for height, width in shapes:
        picture = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        pictures.append(picture)
        files.append(buffer.getvalue())
    write_encoded(folder, files, 3)
    return Images(folder), pictures


@pytest.mark.parametrize("budget", [None, 0])
def test_batches_give_the_images_in_order(tmp_path, budget):
    (first, a), (second, b) = raw(tmp_path / "a", 10), raw(tmp_path / "b", 7, seed=1)
    store = open_store([first, second], budget=budget)
    both = np.concatenate([a, b])
    assert store.resident == (budget is None)
    assert (store.count, store.shape) == (17, (3, 6, 6))
    order = torch.randperm(17)
    batches = list(store.batches(order, 5))
    assert [len(indices) for indices, _ in batches] == [5, 5, 5, 2]
    assert torch.equal(torch.cat([indices for indices, _ in batches]), order)
    assert np.array_equal(torch.cat([images for _, images in batches]).numpy(), both[order])
    assert np.allclose(store.mean, both.mean((0, 2, 3)) / 255)
    assert np.allclose(store.std, both.std((0, 2, 3)) / 255)


@pytest.mark.parametrize("budget", [None, 0])
def test_encoded_images_become_squares_with_a_margin(tmp_path, budget):
    split, pictures = encoded(tmp_path / "a", [(30, 20), (16, 40), (16, 16)])
    store = open_store([split], image_size=14, budget=budget)
    pictures[0] = pictures[0].resize((16, 24), Image.Resampling.BILINEAR)
    expected = np.stack([np.asarray(ImageOps.fit(p, (16, 16), Image.Resampling.NEAREST), int) for p in pictures])
    assert store.shape == (3, 16, 16)
    _, images = next(store.batches(torch.tensor([2, 0, 1]), 3))
    assert np.abs(images.numpy() - expected.transpose(0, 3, 1, 2)[[2, 0, 1]]).max() <= 1  # rounding
    assert np.allclose(store.mean, expected.mean((0, 1, 2)) / 255, atol=1e-3)


@pytest.mark.parametrize("side", [16, 31, 33])
def test_batches_of_jpegs_stay_as_they_are(tmp_path, side):
    """They are decoded into the batch where they fit; memory is used again, but not theirs."""
    split, _ = encoded(tmp_path / "a", [(side, side)] * 20, "JPEG")
    whole, batchwise = (open_store([split], image_size=14, budget=budget) for budget in (None, 0))
    expected = {
        int(i): image for order, images in whole.batches(torch.arange(20), 20) for i, image in zip(order, images)
    }
    kept = [batch for _ in range(3) for batch in batchwise.batches(torch.randperm(20), 3)]
    assert all(torch.equal(image, expected[int(i)]) for order, images in kept for i, image in zip(order, images))
    if side == 16:
        assert all(np.array_equal(expected[i], split.decode(i)) for i in range(20))


def test_small_images_are_not_enlarged_beyond_a_view(tmp_path):
    assert open_store([encoded(tmp_path / "a", [(15, 20), (15, 15)])[0]], image_size=14).shape == (3, 15, 15)
    assert open_store([encoded(tmp_path / "b", [(9, 20), (12, 15)])[0]], image_size=14).shape == (3, 14, 14)


def test_splits_of_different_sizes_are_decoded(tmp_path):
    (first, _), (second, _) = raw(tmp_path / "a", 3, side=6), raw(tmp_path / "b", 3, side=9)
    assert open_store([first, second], image_size=7).shape == (3, 8, 8)
    with pytest.raises(DeepclustError, match="image_size"):
        open_store([first, second])


def test_what_does_not_fit_together_is_refused(tmp_path):
    (color, _), (gray, _), (one, _) = raw(tmp_path / "a", 3), raw(tmp_path / "b", 3, channels=1), raw(tmp_path / "c", 1)
    with pytest.raises(DeepclustError, match="channels"):
        open_store([color, gray])
    with pytest.raises(DeepclustError, match="at least 2"):
        open_store([one])


def test_undecodable_images_are_named(tmp_path):
    write_encoded(tmp_path / "a", [b"not an image", b"nor this"], 3)
    with pytest.raises(DeepclustError, match="does not decode"):
        open_store([Images(tmp_path / "a")], image_size=8)
