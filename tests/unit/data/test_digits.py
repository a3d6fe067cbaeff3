import numpy as np
from sklearn.datasets import load_digits

from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.data.loaders import digits
from deepclust.data.writing import write_split


def prepare(split, folder):
    count = digits.FACTS.splits[split]
    loaded = digits.read_split(digits.Options(), split, [])
    write_split(loaded, folder, folder, progress=Progress(), count=count)
    names = [line.split(",")[1] for line in (folder / "ids.csv").read_text().splitlines()[1:]]
    return Images(folder), np.load(folder / "labels.npy"), [int(name) for name in names]


def test_the_splits_are_all_digits_once(tmp_path):
    original = load_digits()
    seen = []
    for split, count in {"train": 1347, "test": 450}.items():
        images, labels, numbers = prepare(split, tmp_path / split)
        assert (len(images), images.shape, len(labels)) == (count, (1, 8, 8), count)
        np.testing.assert_array_equal(labels, original.target[numbers])
        pixels = images.pixels(slice(None))[:, 0]
        np.testing.assert_allclose(pixels, original.images[numbers] * 255 / 16, atol=0.5)
        assert (pixels.min(), pixels.max()) == (0, 255)
        assert np.bincount(labels).min() > count / 10 * 0.7  # no class is left out
        seen += numbers
    assert sorted(seen) == list(range(1797))


def test_the_order_tells_nothing_and_never_changes(tmp_path):
    _, labels, numbers = prepare("test", tmp_path)
    assert numbers[:4] == [1603, 657, 684, 1732]
    assert abs(np.corrcoef(labels, np.arange(len(labels)))[0, 1]) < 0.15
