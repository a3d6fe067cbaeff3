import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images, write_raw
from deepclust.core.progress import Progress
from deepclust.features import extract as module
from deepclust.features import partial
from deepclust.features.extract import extract, extract_part
from deepclust.features.options import ExtractionOptions
from deepclust.features.partial import remove_states
from deepclust.features.parts import Part, join_parts
from deepclust.models.model import SPEC_KEYS, save_model
from deepclust.models.networks import build_network

ARCHITECTURE = {"name": "resnet10_w32", "stem": "cifar", "in_channels": 3}
HOW = {"devices": [torch.device("cpu")], "code": "c0de", "progress": Progress()}


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 20))
def test_parts_are_whole_batches_and_together_all_images(images, batch_size, of):
    spans = [Part(number, of).span(images, batch_size) for number in range(1, of + 1)]
    assert [index for span in spans for index in span] == list(range(images))
    assert all(span.start % batch_size == 0 for span in spans if span)
    batches = [-(-len(span) // batch_size) for span in spans]
    assert max(batches) - min(batches) <= 1


@pytest.mark.parametrize("text", ["", "1", "0-of-2", "3-of-2", "1-of-2 ", "-1-of-2"])
def test_what_is_no_part(text):
    with pytest.raises(DeepclustError, match="2-of-8"):
        Part.parse(text)


@pytest.fixture
def split(tmp_path, monkeypatch):
    """50 images in batches of 8, and a network."""
    monkeypatch.setattr(module, "_batch_size", lambda *_: 8)
    values = np.random.default_rng(0).integers(0, 256, (50, 3, 8, 8), np.uint8)
    write_raw(tmp_path / "images", [values], (3, 8, 8))
    torch.manual_seed(0)
    spec = dict.fromkeys(SPEC_KEYS) | {"architecture": ARCHITECTURE, "interpolation": "bilinear"}
    spec |= {"crop_fraction": 1.0, "pooling": "avg", "feature_dim": 256}
    save_model(tmp_path / "model" / "model.json", build_network(ARCHITECTURE), spec)
    return Images(tmp_path / "images"), tmp_path / "model" / "model.json"


def compute(split, output, number, of, **options):
    """Compute a part; returns the file's name and the record that a job would leave."""
    path = extract_part(*split, output, Part(number, of), ExtractionOptions(**options), **HOW)
    record = output.parent / f"{number}-of-{of}.provenance.json"
    record.parent.mkdir(exist_ok=True)
    rows = None if path is None else str(path)
    record.write_text(json.dumps({"options": {"rows": rows}, "device": "a CPU", "seconds": number}))
    return record


@pytest.mark.parametrize("of", [1, 2, 3, 10])  # there are 7 batches
def test_parts_together_are_the_features_of_one_job(split, tmp_path, of):
    extract(*split, tmp_path / "one.npy", ExtractionOptions(), **HOW)
    output = tmp_path / "features" / "features.npy"
    records = [compute(split, output, number, of) for number in range(of, 0, -1)][::-1]
    assert [content["seconds"] for content in join_parts(records, 50, output)] == list(range(1, of + 1))
    assert output.read_bytes() == (tmp_path / "one.npy").read_bytes()
    remove_states(output)
    assert sorted(os.listdir(output.parent)) == sorted(["features.npy", *(record.name for record in records)])


def test_a_killed_part_continues_and_a_finished_one_is_not_computed_again(split, tmp_path, monkeypatch):
    monkeypatch.setattr(partial, "SAVE_SECONDS", -1.0)
    output = tmp_path / "features" / "features.npy"
    read, starts = Images.read, []

    def breaks(self, start, stop):
        if start >= 40:
            raise KeyboardInterrupt
        return read(self, start, stop)

    with monkeypatch.context() as patch:
        patch.setattr(Images, "read", breaks)
        compute(split, output, 1, 2)
        with pytest.raises(KeyboardInterrupt):
            compute(split, output, 2, 2)
    monkeypatch.setattr(Images, "read", lambda self, *span: starts.append(span) or read(self, *span))
    records = [compute(split, output, number, 2) for number in (1, 2)]
    assert min(starts) >= (24, 32) and max(stop for _, stop in starts) == 50
    join_parts(records, 50, output)
    extract(*split, tmp_path / "one.npy", ExtractionOptions(), **HOW)
    assert output.read_bytes() == (tmp_path / "one.npy").read_bytes()


def test_parts_that_do_not_belong_together(split, tmp_path):
    output = tmp_path / "features" / "features.npy"
    first, second = compute(split, output, 1, 2), compute(split, output, 2, 2, precision="bf16")
    with pytest.raises(DeepclustError, match="different ways.*a CPU"):
        join_parts([first, second], 50, output)
    with pytest.raises(DeepclustError, match="not those of all 50 images"):
        join_parts([first], 50, output)
    path = json.loads(first.read_text())["options"]["rows"]
    Path(path).unlink()
    with pytest.raises(DeepclustError, match="gone"):
        join_parts([first], 50, output)
    assert not output.exists()
