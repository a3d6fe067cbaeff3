"""Whole trainings against the updates of the authors' code, in words of our own.

A training runs as ever, on a small network in float32. What it draws is noted: the images of each step, their views,
and the clusters that an epoch begins with where these start from random images. The plain code goes through the same
steps with torch's layers, losses and autograd.
"""

import copy
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepclust.models import model as models
from deepclust.pretraining import deepcluster, deepcluster_v2, scan, secu, selflabel, simclr
from deepclust.pretraining.engine import pretraining as engine

COUNT, BATCH = 40, 10
STEPS = COUNT // BATCH
WIDTH, DIM = 12, 6


class Small(nn.Module):
    """A backbone with batch normalisation; without biases that it would cancel, whose gradients are rounding alone."""

    feature_dim = WIDTH

    def __init__(self, *_):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8)
        self.last = nn.Linear(72, WIDTH, bias=False)

    def forward(self, images):
        return self.last(F.relu(self.norm(self.conv(images))).flatten(1))

    forward_features = forward


@pytest.fixture
def run(train, monkeypatch):
    """Trains, and tells what was trained: the method before and after, and what happened in each epoch."""
    made = []

    class Noting(engine.Trainer):
        def __init__(self, method, *others):
            super().__init__(method, *others)
            made.append(SimpleNamespace(before=copy.deepcopy(method), after=method, epochs=[]))
            note(method, made[-1].epochs)

    for module in (engine, models):
        monkeypatch.setattr(module, "build_network", Small)
    monkeypatch.setattr(engine, "Trainer", Noting)

    def start(module, **options):
        result = train(module, batch_size=BATCH, **options)
        made[-1].model = result.path / "model.json"
        made[-1].losses = [
            json.loads(line)["loss"] for line in (result.path / "training.jsonl").read_text().splitlines()
        ]
        return made[-1]

    return start


def note(method, epochs):
    views, loss, start_epoch = method.views, method.loss, method.start_epoch

    def noting_start(epoch):
        start_epoch(epoch)
        epochs.append(SimpleNamespace(state=copy.deepcopy(method.state_dict()), steps=[]))

    def noting_views(images, seed):
        drawn = views(images, seed)
        epochs[-1].steps.append(SimpleNamespace(views=[view.clone() for view in drawn]))
        return drawn

    def noting_loss(embeddings, indices):
        epochs[-1].steps[-1].indices = indices.clone()
        return loss(embeddings, indices)

    method.start_epoch, method.views, method.loss = noting_start, noting_views, noting_loss


def copied(layers, trained):
    """Fresh layers with the weights of `trained`, which must be of the same kinds in the same order."""
    layers.load_state_dict(dict(zip(layers.state_dict(), copy.deepcopy(trained.state_dict()).values())))
    return layers


def close(found, expected):
    """Equal up to a share of the tensor's norm, since several steps enlarge what rounding does to single numbers."""
    difference = (found.detach().double() - expected.detach().double()).norm()
    assert found.shape == expected.shape and difference <= 1e-3 * expected.detach().double().norm() + 1e-4


def assert_same(training, backbone, losses):
    """Weights at the end and the mean loss of every epoch, which must have moved."""
    ours, start = training.after.backbone.state_dict(), training.before.backbone.state_dict()
    for name, value in backbone.state_dict().items():
        close(ours[name], value)
    assert any(not torch.allclose(ours[name], start[name], rtol=1e-2, atol=1e-3) for name in ours)
    means = torch.tensor(losses).view(len(training.epochs), -1).mean(1)
    assert training.losses == pytest.approx(means.tolist(), rel=1e-3)


def descend(optimizer, loss, losses):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())


def change_of_entropy(counts, label, first):
    """How much sum p log p grows for each cluster that an image could go to: from `label`, or from nowhere at first."""
    total = counts.sum()
    if first:
        share = counts / (total + 1)
        return torch.special.entr(share) - torch.special.entr(share + 1 / (total + 1))
    share = counts / total
    joining = torch.special.entr(share) - torch.special.entr(share + 1 / total)
    leaving = torch.special.entr(share[label]) - torch.special.entr(share[label] - 1 / total)
    change = joining + leaving
    change[label] = 0
    return change


@pytest.mark.parametrize("constraint", ["size", "entropy"])
@pytest.mark.parametrize("predictor", [False, True])
def test_secu(run, constraint, predictor):
    """idstcv/SeCu, secu/builder.py, builder_imagenet.py and main.py.

    The first step after the frozen epoch is at rate 0 here, at that of the second step there.
    """
    epochs, warmup, alpha = 5, 2, 0.12 * COUNT
    training = run(
        secu,
        clusters=3,
        heads=2,
        projection_dim=DIM,
        epochs=epochs,
        warmup_epochs=warmup,
        constraint=constraint,
        predictor=predictor,
        seed=3,  # with some others, rounding moves a number over the kink of a ReLU
    )
    start = training.before
    backbone = copy.deepcopy(start.backbone)
    hidden = [nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()]
    more = [nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU()] if predictor else []
    projector = nn.Sequential(*hidden, *more, nn.Linear(WIDTH, DIM), *([nn.BatchNorm1d(DIM)] if predictor else []))
    projector = copied(projector, start.projector)
    encoder = nn.ModuleList([backbone, projector])
    if predictor:
        layers = nn.Sequential(nn.Linear(DIM, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, DIM))
        encoder.append(copied(layers, start.predictor))
    centers = [nn.Parameter(part.detach().T.clone()) for part in start.centers.split([3, 6])]  # a column each
    sizes = [part.shape[1] for part in centers]
    labels = [torch.ones(COUNT, dtype=torch.long) for _ in centers]
    duals, counts = ([torch.zeros(size) for size in sizes] for _ in range(2))
    optimizer = torch.optim.SGD(
        [{"params": encoder.parameters()}, {"params": centers}], lr=0.2, momentum=0.9, weight_decay=1e-4
    )
    optimizer.param_groups[1]["lr"] = 1.2
    encoder.train()
    losses = []
    for epoch, noted in enumerate(training.epochs):
        before = [F.normalize(part.detach(), dim=0) for part in centers]
        for number, step in enumerate(noted.steps):
            done = epoch - 1 + number / STEPS  # without the frozen epoch
            falling = (1 + math.cos(math.pi * (done - warmup) / (epochs - 1 - warmup))) / 2
            optimizer.param_groups[0]["lr"] = 0.2 * (0 if epoch == 0 else done / warmup if done < warmup else falling)
            projected = [projector(backbone(view)) for view in step.views]
            outputs = [F.normalize(x, dim=1) for x in projected]
            if predictor:
                outputs += [F.normalize(encoder[2](x), dim=1) for x in projected]
            loss = 0
            for head, part in enumerate(centers):
                scores = [x.detach() @ F.normalize(part, dim=0) for x in outputs]
                costs = -sum(score.detach() for score in scores) / len(scores)
                old = labels[head][step.indices]
                if constraint == "size":
                    costs = costs - duals[head]
                elif counts[head].sum() > 0:
                    rows = [change_of_entropy(counts[head].double(), label, epoch == 0) for label in old]
                    costs = costs + alpha * torch.stack(rows).float()
                new = costs.argmin(1)
                present = new.bincount(minlength=sizes[head])
                duals[head] = (duals[head] - 0.1 * present / BATCH + 0.1 * 0.9 / sizes[head]).clamp(min=0)
                counts[head] += present - (0 if epoch == 0 else old.bincount(minlength=sizes[head]))
                labels[head][step.indices] = new
                old = new if epoch == 0 else old
                for score in scores:
                    own = F.one_hot(new, sizes[head]).bool()
                    logits = torch.where(own, score, score.detach()) / 0.05
                    loss = loss + F.cross_entropy(logits, new) / (len(outputs) * len(centers))
                predicted = [x @ before[head] / 0.05 for x in outputs]
                for view, logits in enumerate(predicted):
                    other = predicted[1 - view % 2].softmax(1).detach()  # the projection's, for the predictor as well
                    target = 0.8 * other + 0.2 * F.one_hot(old, sizes[head])
                    loss = loss + F.cross_entropy(logits, target) / (len(outputs) * len(centers))
            descend(optimizer, loss, losses)
    assert_same(training, backbone, losses)
    assert torch.equal(training.after.labels.long(), torch.stack(labels, 1))
    close(training.after.centers, torch.cat([part.T for part in centers]))
    if constraint == "size":
        close(training.after.duals, torch.cat(duals))
    sizes_now = [own.bincount(minlength=size) for own, size in zip(labels, sizes)]
    assert training.after.counts.tolist() == torch.cat(sizes_now).tolist()


def test_deepcluster(run):
    """facebookresearch/deepcluster, main.py: labels and the fresh top layer of each epoch are those of the training."""
    options = {"clusters": 8, "components": 4, "sobel": False}
    training = run(deepcluster, epochs=3, **options)
    backbone, losses = copy.deepcopy(training.before.backbone).train(), []
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-5)
    for noted in training.epochs:
        top = nn.Linear(WIDTH, 8)
        top.load_state_dict({name: noted.state[f"top.{name}"] for name in ("weight", "bias")})
        assert not top.bias.any() and top.weight.std().item() == pytest.approx(0.01, rel=0.3)
        top_optimizer = torch.optim.SGD(top.parameters(), lr=0.05, weight_decay=1e-5)
        for step in noted.steps:
            loss = F.cross_entropy(top(F.relu(backbone(step.views[0]))), noted.state["labels"][step.indices].long())
            top_optimizer.zero_grad()
            descend(optimizer, loss, losses)
            top_optimizer.step()
    assert_same(training, backbone, losses)
    close(training.after.top.weight, top.weight)


class Larc(torch.optim.SGD):
    """The rule of apex and solo-learn, one parameter at a time."""

    def __init__(self, parameters, trust, clip, vectors):
        super().__init__(parameters, lr=0.1, momentum=0.9)
        self.trust, self.clip, self.vectors, self.decay = trust, clip, vectors, 1e-6

    def step(self):
        (group,) = self.param_groups
        for parameter in group["params"]:
            length, steepness = parameter.data.norm(), parameter.grad.norm()
            if length > 0 and steepness > 0 and (parameter.ndim > 1 or self.vectors):
                share = self.trust * length / (steepness + self.decay * length + 1e-8)
                if self.clip:
                    share = min(share / group["lr"], 1) if group["lr"] else 1
                parameter.grad = share * (parameter.grad + self.decay * parameter.data)
        super().step()


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ({"trust": 0.02, "clip": True, "vectors": False}, {}),
        (
            {"trust": 0.001, "clip": False, "vectors": True},
            {
                "optimizer": "lars",
                "scale_vectors": True,
                "trust": 0.001,
                "learning_rate": 1.0,
                "first_learning_rate": 0.1,
            },
        ),
    ],
    ids=["solo-learn", "swav"],
)
def test_deepcluster_v2(run, optimizer, options):
    """Solo-learn's setting, which is the default, and facebookresearch/swav, main_deepclusterv2.py.

    Clusterings are those of the training; `test_deepcluster_v2.py` compares them.
    """
    epochs, warmup, small = 5, 2, 2 if options else 0
    crops = {"small_crops": {"count": small, "size": 8}}
    sizes = {"clusters": 5, "heads": 2, "projection_hidden": 16, "projection_dim": DIM}
    training = run(deepcluster_v2, epochs=epochs, warmup_epochs=warmup, **sizes, **crops, **options)
    first, highest = options.get("first_learning_rate", 0.0), options.get("learning_rate", 0.6)
    backbone = copy.deepcopy(training.before.backbone).train()
    layers = nn.Sequential(nn.Linear(WIDTH, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, DIM))
    projector, losses = copied(layers, training.before.projector).train(), []
    larc = Larc([*backbone.parameters(), *projector.parameters()], **optimizer)
    bank = training.epochs[0].state["bank"].float().clone()
    for epoch, noted in enumerate(training.epochs):
        torch.testing.assert_close(noted.state["bank"].float(), bank, rtol=0, atol=2e-3)  # float16 here
        prototypes, labels = noted.state["prototypes"], noted.state["labels"].long()
        for number, step in enumerate(noted.steps):
            done = epoch + number / STEPS
            rise = first + (highest - first) * done / warmup
            fall = 6e-4 + (highest - 6e-4) * (1 + math.cos(math.pi * (done - warmup) / (epochs - warmup))) / 2
            larc.param_groups[0]["lr"] = rise if done < warmup else fall
            assert len(step.views) == 2 + small
            embeddings = F.normalize(projector(backbone(torch.cat(step.views))), dim=1)
            loss = 0
            for head in range(2):
                target = labels[head, step.indices].repeat(2 + small)
                loss = loss + F.cross_entropy(embeddings @ prototypes[head].T / 0.1, target) / 2
            descend(larc, loss, losses)
            bank[:, step.indices] = embeddings[: 2 * BATCH].detach().view(2, BATCH, DIM)
    assert_same(training, backbone, losses)
    close(training.after.projector[3].weight, projector[3].weight)


@pytest.fixture
def neighbors(tmp_path):
    """Each of the images has the next five as its neighbors."""
    path = tmp_path / "neighbors.npy"
    np.save(path, (np.arange(COUNT)[:, None] + np.arange(1, 6)).astype(np.int32) % COUNT)
    return [path]


def test_scan_and_self_labelling(run, neighbors):
    """wvangansbeke/Unsupervised-Classification, losses.py and train_utils.py; pairs are those of the training."""
    pretext = run(simclr, epochs=1, projection_dim=DIM)
    training = run(
        scan,
        name="scan",
        start_model=pretext.model,
        start_from="s",
        neighbors=neighbors,
        clusters=3,
        nearest=5,
        epochs=4,
        learning_rate=0.01,
    )
    backbone, losses = copy.deepcopy(training.before.backbone).train(), []
    head = copied(nn.Linear(WIDTH, 3), training.before.head)
    adam = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=0.01, weight_decay=1e-4)
    for noted in training.epochs:
        for step in noted.steps:
            anchors, others = (head(backbone(view)).softmax(1) for view in step.views)
            similarity = (anchors * others).sum(1)
            consistency = F.binary_cross_entropy(similarity, torch.ones_like(similarity))
            entropy = torch.special.entr(anchors.mean(0).clamp(min=1e-8)).sum()
            descend(adam, consistency - 5 * entropy, losses)
    assert_same(training, backbone, losses)
    close(training.after.head.weight, head.weight)

    self_labelling = run(
        selflabel, name="last", start_model=training.model, start_from="scan", clusters=3, threshold=0.5, epochs=4
    )
    close(self_labelling.before.head.weight, head.weight)
    losses = []
    adam = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-4, weight_decay=1e-4)
    for noted in self_labelling.epochs:
        for step in noted.steps:
            with torch.no_grad():
                confidence, labels = head(backbone(step.views[0])).softmax(1).max(1)
            strong, sure = head(backbone(step.views[1])), confidence > 0.5
            counts = labels[sure].bincount(minlength=3)
            weight = torch.where(counts > 0, sure.sum() / counts, 1)
            descend(adam, F.cross_entropy(strong[sure], labels[sure], weight=weight), losses)
    assert_same(self_labelling, backbone, losses)
    close(self_labelling.after.head.weight, head.weight)
