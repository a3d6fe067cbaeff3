"""The parts of training by several processes: views, batch normalisation, gradients, errors."""

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images
from deepclust.core.progress import Progress
from deepclust.models.plain_networks import SeededDropout
from deepclust.pretraining import deepcluster, tcc
from deepclust.pretraining.engine import distributed
from deepclust.pretraining.engine import pretraining as engine
from deepclust.pretraining.engine.batch_norm import synchronise
from deepclust.pretraining.engine.distributed import Rehearsal, Team, local_device, other_processes, team_of_environment
from deepclust.pretraining.engine.gradient_cache import backward
from deepclust.pretraining.engine.method import ImageFacts
from deepclust.pretraining.engine.options import AugmentationOptions
from deepclust.pretraining.simclr import Options, SimCLR
from deepclust.pretraining.views.augmentation import Augmentation
from deepclust.pretraining.views.base import for_each_image, part_of_batch
from deepclust.pretraining.views.strong_augmentation import StrongAugmentation, StrongAugmentationOptions

CPU = torch.device("cpu")


@given(total=st.integers(1, 1000), count=st.integers(1, 17))
def test_parts_are_consecutive_and_of_nearly_equal_size(total, count):
    bounds = [Team(rank, count).bounds(total) for rank in range(count)]
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == total
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("kind", ["augmentation", "strong"])
@given(count=st.integers(1, 4), seed=st.integers(0, 1000))
def test_views_do_not_depend_on_the_number_of_processes(kind, count, seed):
    if kind == "strong":
        augment = StrongAugmentation(StrongAugmentationOptions(cutout=3), (6, 6), [0.5] * 3, [0.2] * 3)
    else:
        options = AugmentationOptions(blur_probability=0.5, solarize_probability=0.5)
        augment = Augmentation(options, (6, 6), [0.5] * 3, [0.2] * 3)
    images = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    parts = []
    for rank in range(count):
        start, stop = Team(rank, count).bounds(7)
        with part_of_batch(start, stop, 7):
            parts.append(augment(images[start:stop], seed))
    assert torch.allclose(torch.cat(parts), augment(images, seed), atol=1e-5)


@pytest.mark.parametrize("name", ["deepcluster", "tcc"])
@given(count=st.integers(1, 4), seed=st.integers(0, 1000))
def test_what_else_is_drawn_does_not_depend_on_the_number_of_processes(name, count, seed):
    """Dropout of DeepCluster, Gumbel noise of TCC."""
    facts, images = ImageFacts(20, (6, 6), [0.5] * 3, [0.2] * 3), torch.zeros(7, 3, 8, 8, dtype=torch.uint8)
    if name == "deepcluster":
        network = nn.Sequential(SeededDropout(5), nn.Linear(5, 4), SeededDropout(4))
        network.feature_dim = 4
        method = deepcluster.DeepCluster(deepcluster.Options(dataset="d", clusters=3), network, facts)
    else:
        method = tcc.TCC(tcc.Options(dataset="d", clusters=3, sampling="gumbel"), Plain(), facts)
    parts = []
    for rank in range(count):
        start, stop = Team(rank, count).bounds(7)
        with part_of_batch(start, stop, 7):
            parts.append([draws for draws in method.views(images[start:stop], seed) if draws.ndim != 4])
    drawn = [torch.cat(draws) for draws in zip(*parts)]
    expected = [draws for draws in method.views(images, seed) if draws.ndim != 4]
    assert len(expected) == (2 if name == "deepcluster" else 1)
    assert all(torch.equal(own, other) for own, other in zip(drawn, expected, strict=True))


def test_several_draws_for_each_image_stay_together():
    whole = for_each_image(lambda total: torch.arange(total), 12)
    with part_of_batch(1, 3, 4):
        assert for_each_image(lambda total: torch.arange(total), 6).tolist() == whole[3:9].tolist()


# --- batch normalisation ---------------------------------------------------------------------------------------------


def normalise_together(shape, dtype, affine):
    """In every process: outputs, gradients and running statistics as if one process had the joined batch."""
    with team_of_environment(CPU) as team:
        torch.manual_seed(0)
        kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
        alone, together = (kind(shape[1], momentum=0.3, affine=affine) for _ in range(2))
        for layer in (alone, together):
            for low, parameter in zip((0.5, 0), layer.parameters()):
                nn.init.uniform_(parameter, low, low + 1)
        together.load_state_dict(alone.state_dict())
        names = list(together.state_dict())
        synchronise(nn.Sequential(together))
        assert isinstance(together, kind)
        assert list(together.state_dict()) == names
        start, stop = team.bounds(shape[0])
        for _ in range(2):
            images = (10 + 3 * torch.randn(shape)).to(getattr(torch, dtype))
            weights = torch.randn(shape)
            whole = images.clone().requires_grad_()
            part = images[start:stop].clone().requires_grad_()
            expected, found = alone(whole), together(part)
            assert found.dtype == expected.dtype
            for layer in (alone, together):
                layer.zero_grad()
            (expected.float() * weights).sum().backward()
            (found.float() * weights[start:stop]).sum().backward()
            team.all_reduce(parameter.grad for parameter in together.parameters())
            tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 0.02, "atol": 0.05}
            torch.testing.assert_close(found, expected[start:stop], **tolerance)
            torch.testing.assert_close(part.grad, whole.grad[start:stop], **tolerance)
            for shared, own in zip(together.parameters(), alone.parameters(), strict=True):
                torch.testing.assert_close(shared.grad, own.grad, **tolerance)
        torch.testing.assert_close(together.state_dict(), alone.state_dict(), rtol=1e-4, atol=1e-5)
        together.eval(), alone.eval()
        torch.testing.assert_close(together(part), alone(part), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "shape", "dtype", "affine"),
    [
        (2, (9, 4), "float32", True),
        (2, (9, 4), "float32", False),
        (3, (8, 5, 3, 2), "float32", True),
        (2, (6, 4, 4, 4), "bfloat16", True),
    ],
)
def test_batch_normalisation_is_that_of_the_joined_batch(teams, tmp_path, count, shape, dtype, affine):
    teams.call(count, tmp_path / "log", normalise_together, list(shape), dtype, affine)


# --- gradients -------------------------------------------------------------------------------------------------------


class Plain(nn.Sequential):
    """A network without batch normalisation, whose output for an image does not depend on the others."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 8))
        self.feature_dim = 8


class WithPrototypes(SimCLR):
    """Parameters that only the loss knows, and an embedding that is not trained through."""

    def __init__(self, options, backbone, images):
        super().__init__(options, backbone, images)
        self.prototypes = nn.Parameter(torch.randn(5, options.projection_dim))

    def embed(self, views):
        first, second = super().embed(views)
        return first, second, first.detach().sum(1)

    def loss(self, embeddings, indices):
        first, second, sums = embeddings
        scalars = super().loss((first, second), indices)
        scores = first @ self.prototypes.T + sums.unsqueeze(1)
        return scalars | {"loss": scalars["loss"] + nn.functional.cross_entropy(scores, indices % 5)}


def gradients(micro_batch, team, bounds):
    torch.manual_seed(0)
    method = WithPrototypes(Options(dataset="d"), Plain(), ImageFacts(11, (6, 6), [0.5], [0.25]))
    views = [torch.randn(11, 1, 6, 6)[slice(*bounds)] for _ in range(2)]
    scalars, embeddings = backward(method, views, torch.arange(11), micro_batch, bf16=False, team=team)
    return scalars, embeddings, {name: parameter.grad for name, parameter in method.named_parameters()}


def compare_gradients(micro_batch):
    with team_of_environment(CPU) as team:
        found = gradients(micro_batch, team, team.bounds(11))
        torch.testing.assert_close(found, gradients(11, Team(), (0, 11)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("count", "micro_batch"), [(2, 11), (2, 2), (3, 2)])
def test_gradients_are_those_of_the_whole_batch(teams, tmp_path, count, micro_batch):
    teams.call(count, tmp_path / "log", compare_gradients, micro_batch)


def test_a_rehearsal_needs_no_other_process():
    scalars, embeddings, grads = gradients(11, Rehearsal(1, 3), Rehearsal(1, 3).bounds(11))
    assert {len(tensor) for tensor in embeddings} == {11}
    assert scalars["loss"].isfinite()
    assert all(gradient is not None for gradient in grads.values())


# --- what processes tell each other -----------------------------------------------------------------------------------


def talk():
    with team_of_environment(CPU) as team:
        assert team.all_reduce_max(team.rank, 5 - team.rank) == [2, 5]
        for content in (b"state" if team.first else b"", None):
            assert team.broadcast_bytes(content) == (None if content is None else b"state")
        parts = torch.arange(10.0)[slice(*team.bounds(10))], torch.ones(10, 2, 3)[slice(*team.bounds(10))]
        whole = team.all_gather(parts, 10)
        assert whole[0].tolist() == list(range(10))
        assert whole[1].shape == (10, 2, 3)
        layer = nn.BatchNorm1d(2)
        nn.init.constant_(layer.weight, team.rank)
        layer.running_mean += team.rank + 7
        team.broadcast_module(layer)
        assert (layer.running_mean[0].item(), layer.weight[0].item()) == (7, team.rank)
        team.broadcast_module(layer, parameters=True)
        assert layer.weight[0].item() == 0


def test_processes_agree(teams, tmp_path):
    teams.call(3, tmp_path / "log", talk)


def fail_in_one_process():
    with team_of_environment(CPU) as team:
        if team.rank == 1:
            raise DeepclustError("one image is broken")
        team.barrier()


def fail_in_all_processes():
    with team_of_environment(CPU) as team:
        team.barrier()
        raise DeepclustError("one image is broken")


@pytest.mark.parametrize("function", [fail_in_one_process, fail_in_all_processes])
def test_an_error_ends_all_and_is_told_once(teams, tmp_path, function):
    log = tmp_path / "log"
    teams.start(3, log, module=__name__, function=function.__name__, arguments=[])
    assert teams.wait() == [1, 1, 1]
    assert log.read_text().count("Error: ") == log.read_text().count("DeepclustError: one image is broken") == 1


def train_with_little_memory(images, out):
    """The second process can take 3 images at a time."""
    with team_of_environment(CPU) as team:

        def embed(self, views):
            if team.rank == 1 and len(views[0]) > 3:
                raise torch.OutOfMemoryError("too large")
            return SimCLR.embed(self, views)

        module = SimpleNamespace(Options=Options, METHOD=type("Variant", (SimCLR,), {"embed": embed}))
        options = Options(dataset="noise", architecture="resnet10_w32", epochs=1, batch_size=20, precision="fp32")
        written = [Path(out) / name for name in ("model.json", "training.jsonl", "tensorboard", "snapshots")]
        files = engine.TrainingFiles([Images(Path(images))], None, *written)
        session = engine.Session(CPU, Progress(hidden=True), "0", 1000, lambda stop: None, team)
        engine.pretrain("simclr", module, options, files, session)


def test_memory_of_one_process_decides_for_all(teams, tmp_path, images):
    log = tmp_path / "log"
    teams.call(2, log, train_with_little_memory, str(images.folder), str(tmp_path / "out"))
    assert log.read_text().count("out of memory") == 2  # 10 to 5 to 3, told by the first process
    assert "micro-batches of 3 images, still 20 images per step" in log.read_text()
    assert len([json.loads(line) for line in (tmp_path / "out" / "training.jsonl").read_text().splitlines()]) == 1


def test_a_place_that_is_not_reached_is_named(monkeypatch):
    monkeypatch.setattr(distributed, "MEETING", timedelta(seconds=1))
    place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    said = r"at 127\.0\.0\.1, port 1 .*GLOO_SOCKET_IFNAME"
    with pytest.raises(DeepclustError, match=said), team_of_environment(torch.device("cpu")):
        raise AssertionError("nobody is there")


def meet_and_be_slow(slow):
    """One process does something else for longer than a meeting may take."""
    distributed.MEETING = timedelta(seconds=6)
    with team_of_environment(CPU) as team:
        if team.rank == slow:
            time.sleep(8)
        assert team.all_reduce_max(team.rank) == [1]


@pytest.mark.parametrize("slow", [0, 1])
def test_only_the_meeting_has_to_be_quick(teams, tmp_path, slow):
    teams.call(2, tmp_path / "log", meet_and_be_slow, slow)


def meet_without_the_last():
    distributed.MEETING = timedelta(seconds=1)
    if os.environ["RANK"] == "1":
        os._exit(0)
    with team_of_environment(CPU):
        raise AssertionError("the other one is gone")


def test_a_process_that_does_not_come_is_not_waited_for_long(teams, tmp_path):
    log = tmp_path / "log"
    started = time.monotonic()
    teams.start(2, log, module=__name__, function=meet_without_the_last.__name__, arguments=[])
    assert teams.wait() == [1, 0] and time.monotonic() - started < 60
    assert "the processes of this training do not meet at" in log.read_text()


def train_with_labels_that_differ(images, out):
    """Rounding may give an image another cluster in another process; batches must not differ then."""
    with team_of_environment(CPU) as team:
        orders = []

        def cluster(self, epoch):
            labels = torch.arange(len(self.labels), dtype=torch.int32) % 4
            labels[7 * team.rank] = 3
            return labels

        def order(self, count, seed):
            orders.append(deepcluster.DeepCluster.order(self, count, seed).tolist())
            return torch.tensor(orders[-1])

        variant = type("Variant", (deepcluster.DeepCluster,), {"_cluster": cluster, "order": order})
        module = SimpleNamespace(Options=deepcluster.Options, METHOD=variant)
        options = {"architecture": "resnet10_w32", "epochs": 2, "batch_size": 20, "precision": "fp32", "sobel": False}
        options = module.Options(dataset="noise", clusters=4, **options)
        written = [Path(out) / name for name in ("model.json", "training.jsonl", "tensorboard", "snapshots")]
        files = engine.TrainingFiles([Images(Path(images))], None, *written)
        session = engine.Session(CPU, Progress(hidden=True), "0", 1000, lambda stop: None, team)
        engine.pretrain("deepcluster", module, options, files, session)
        Path(out, f"orders-{team.rank}").write_text(json.dumps(orders))
        team.barrier()


def test_all_processes_go_by_the_labels_of_the_first(teams, tmp_path, images):
    out = tmp_path / "out"
    teams.call(2, tmp_path / "log", train_with_labels_that_differ, str(images.folder), str(out))
    first, second = (json.loads((out / f"orders-{rank}").read_text()) for rank in range(2))
    assert len(first) == 2 and first == second


def test_what_nccl_says_is_not_lost():
    """It has one class of errors for processes that are gone, and for networks, GPUs or memory that it cannot use."""
    said = "NCCL error in: x.cpp:1, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"
    with pytest.raises(DeepclustError, match=r"^[^\n]*Cuda failure 2 'out of memory'[^\n]*$"), other_processes():
        raise torch.distributed.DistBackendError(said)


@pytest.mark.parametrize(("gpus", "given"), [(1, 0), (2, None), (3, 2), (4, 2)])
def test_processes_do_not_share_gpus(monkeypatch, gpus, given):
    """Of three processes; each may see no more than the one that is bound to it."""
    monkeypatch.setattr(distributed, "choose_devices", lambda: [torch.device("cuda", gpu) for gpu in range(gpus)])
    monkeypatch.setattr(distributed, "make_current", lambda device: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    if given is None:
        with pytest.raises(DeepclustError, match="3 processes"):
            local_device()
    else:
        assert local_device() == torch.device("cuda", given)
