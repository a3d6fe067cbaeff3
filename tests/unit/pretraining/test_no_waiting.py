"""A step never asks the device for a value. What would make a GPU wait can be seen on a CPU, too."""

import importlib
import pkgutil
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from deepclust import pretraining
from deepclust.pretraining.engine.method import ImageFacts
from deepclust.pretraining.engine.native import NativeHead
from deepclust.pretraining.engine.optimization import build_optimizer

COUNT, BATCH, WIDTH = 64, 16, 16
# Their results, or the sizes of their results, depend on values. (`tolist` and `numpy` cannot be seen.)
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "repeat_interleave"}
WAITING |= {"_unique", "_unique2", "unique_dim", "unique_consecutive"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
STARTED = {"clusters": 3, "start_from": "other"}
CASES = [
    ("simclr", {}),
    ("simclr", {"augmentation": {"blur_probability": 0.5, "solarize_probability": 0.5}, "optimizer": "adamw"}),
    ("secu", {"clusters": 3, "heads": 2}),
    ("secu", {"clusters": 3, "heads": 2, "constraint": "entropy", "predictor": True, "optimizer": "lars"}),
    ("scan", {**STARTED, "nearest": 5}),
    ("selflabel", STARTED),
    ("tcc", {"clusters": 3}),
    ("deepcluster", {"clusters": 5, "sobel": False}),
    ("deepcluster_v2", {"clusters": 4, "heads": 2, "optimizer": "larc", "small_crops": {"count": 1, "size": 6}}),
]


class Watch(TorchDispatchMode):
    """Counts the operations that wait for their values."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function._schema.name.removeprefix("aten::")
        masks = name in INDEXING and any(each is not None and each.dtype == torch.bool for each in arguments[1])
        if name in WAITING or masks:
            self.found[name] += 1
        return function(*arguments, **(options or {}))


class Network(nn.Module):
    feature_dim = WIDTH

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, WIDTH, 3)

    def forward(self, images):
        return self.convolution(images).mean((2, 3))


def take_step(method, optimizer, images, number):
    """As the engine does."""
    views = method.views(images, number)
    embeddings = method.embed(views)
    scalars = method.loss(embeddings, torch.arange(BATCH))
    optimizer.zero_grad()
    scalars["loss"].backward()
    for group, rate in zip(optimizer.param_groups, method.learning_rates(1.5 + number)):
        group["lr"] = rate
    optimizer.step()
    with torch.no_grad():
        method.after_step(tuple(tensor.detach() for tensor in embeddings), torch.arange(BATCH))


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])
def test_no_step_waits_for_the_device(name, options):
    torch.manual_seed(0)
    module = importlib.import_module(f"deepclust.pretraining.{name}")
    start_head = NativeHead(nn.Sequential(), torch.randn(3, WIDTH), torch.zeros(3), normalize=False)
    neighbors = torch.zeros(COUNT, 5, dtype=torch.int32)
    facts = ImageFacts(COUNT, (8, 8), [0.5] * 3, [0.25] * 3, neighbors, start_head)
    method = module.METHOD(module.Options(dataset="d", **options), Network(), facts)
    if name.startswith("deepcluster"):
        method.labels.zero_()  # as after the clustering at an epoch's start
    optimizer = build_optimizer(method.parameter_groups(), method.options)
    images = torch.randint(0, 256, (BATCH * method.images_per_item, 3, 8, 8), dtype=torch.uint8)
    with Watch() as watch:
        for number in range(2):
            take_step(method, optimizer, images, number)
    assert not watch.found


def test_every_method_is_watched():
    names = {info.name for info in pkgutil.iter_modules(pretraining.__path__)}
    methods = {name for name in names if hasattr(importlib.import_module(f"deepclust.pretraining.{name}"), "METHOD")}
    assert methods == {name for name, _ in CASES}


@pytest.mark.parametrize(
    "work",
    [
        lambda values: values.sum().item(),
        lambda values: values[values > 0],
        lambda values: values.unique(),
        lambda values: values.long().bincount(),
        lambda values: bool(values.sum() > 0),
        lambda values: values.masked_fill_(values > 0, values.max().item()),
    ],
)
def test_what_waits_is_seen(work):
    with Watch() as watch:
        work(torch.arange(4.0))
    assert watch.found
