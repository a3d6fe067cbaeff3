"""TCC against a plain implementation in numpy, one image and one cluster at a time, written from its formulas."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from torch import nn

from deepclust.core.errors import DeepclustError
from deepclust.pretraining import tcc
from deepclust.pretraining.engine.method import Epoch, ImageFacts
from deepclust.pretraining.engine.monitors import check_collapse
from deepclust.pretraining.parts.tcc_contrast import (
    Queue,
    cluster_contrast,
    divergence,
    gumbel,
    imbalance,
    instance_contrast,
    membership_contrast,
    relaxed_sample,
    set_vectors,
)
from deepclust.pretraining.tcc import TCC, Options

BATCH, DIM, CLUSTERS, COUNT = 5, 4, 3, 12


class Plain(nn.Linear):
    feature_dim = 6

    def forward(self, images):
        return super().forward(images.flatten(1))


def build(**options):
    torch.manual_seed(0)
    options = {"clusters": CLUSTERS, "projection_dim": DIM, "instance_queue": 7, "cluster_queue": 2} | options
    return TCC(Options(dataset="d", **options), Plain(4, 6), ImageFacts(COUNT, (2, 2), [0.5], [0.25]))


def epoch(number):
    return Epoch(number, 0, lambda: torch.empty(0), lambda parameters: None)


def directions(count, dim, generator):
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=generator, dtype=torch.float64), dim=1)


def filled(length, vectors):
    queue = Queue(length, DIM).double()
    queue.push(vectors)
    return queue


def check_gradient(function, plain, *arguments):
    """Value and gradient of a function of matrices against its plain twin, differentiated numerically."""
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    value = function(*leaves)
    value.backward()
    assert value.item() == pytest.approx(plain(*(argument.numpy() for argument in arguments)), rel=1e-9)
    for i, leaf in enumerate(leaves):

        def of_one(flat, i=i):
            arrays = [argument.numpy() for argument in arguments]
            arrays[i] = flat.reshape(arrays[i].shape)
            return plain(*arrays)

        expected = approx_fprime(arguments[i].numpy().ravel(), of_one, 1e-7)
        assert np.allclose(leaf.grad.numpy().ravel(), expected, atol=1e-5)


# --- the parts -------------------------------------------------------------------------------------------------------


def plain_cluster_contrast(own, other, past, temperature):
    """`past`: pairs of set vector and its cluster."""
    total = 0
    for k in range(len(own)):
        attracted = math.exp(own[k] @ other[k] / temperature)
        repelled = 0
        for j in range(len(own)):
            if j != k:
                repelled += math.exp(own[k] @ own[j] / temperature)
        for vector, cluster in past:
            if cluster != k:
                repelled += math.exp(own[k] @ vector / temperature)
        total -= math.log(attracted / (attracted + repelled))
    return total / len(own)


def plain_membership_contrast(own, other, temperature):
    """Of assignments, one row per image."""
    own, other = ([unit(column) for column in assignments.T] for assignments in (own, other))
    total = 0
    for k in range(len(own)):
        attracted = math.exp(own[k] @ other[k] / temperature)
        repelled = 0
        for j in range(len(own)):
            if j != k:
                repelled += math.exp(own[k] @ own[j] / temperature) + math.exp(own[k] @ other[j] / temperature)
        total -= math.log(attracted / (attracted + repelled))
    return total / len(own)


def plain_instance_contrast(own, other, past, temperature):
    total = 0
    for i in range(len(own)):
        weights = [math.exp(own[i] @ vector / temperature) for vector in [*other, *past]]
        total -= math.log(weights[i] / sum(weights))
    return total / len(own)


def plain_divergence(log_q, log_p):
    total = 0
    for q, p in zip(log_q, log_p):
        for k in range(len(q)):
            total += math.exp(q[k]) * (q[k] - p[k])
    return total / len(log_q)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_clusters_contrast_as_in_a_double_loop(steps):
    """With a queue of two steps that is empty, half full, full and written over."""
    generator = torch.Generator().manual_seed(steps)
    seen = [directions(CLUSTERS, DIM, generator) for _ in range(steps)]
    queue = Queue(2 * CLUSTERS, DIM).double()
    for vectors in seen:
        queue.push(vectors)
    past = [(vector.numpy(), k) for vectors in seen[-2:] for k, vector in enumerate(vectors)]
    check_gradient(
        lambda own, other: cluster_contrast(own, other, queue, 0.7),
        lambda own, other: plain_cluster_contrast(own, other, past, 0.7),
        directions(CLUSTERS, DIM, generator),
        directions(CLUSTERS, DIM, generator),
    )


def test_memberships_contrast_as_in_a_double_loop():
    check_gradient(
        lambda own, other: membership_contrast(own, other, 0.7),
        lambda own, other: plain_membership_contrast(own, other, 0.7),
        log_probabilities(0).exp(),
        log_probabilities(1).exp(),
    )


def test_memberships_tell_what_set_vectors_do_not():
    """Assignments that are uniform but for a trace, and sure ones that differ between the views, cost more."""
    sure = torch.eye(CLUSTERS, dtype=torch.float64).repeat(4, 1)
    vectors, empty = torch.eye(DIM, dtype=torch.float64)[:CLUSTERS].repeat(4, 1), Queue(0, DIM).double()
    vectors = vectors - vectors.mean(0)
    trace = (1 - 1e-3) / CLUSTERS + 1e-3 * sure
    exchanged = sure.roll(1, dims=0)  # another image's; each cluster's set vector of such views is what it was
    cases = [
        (sure, vectors, sure, vectors),
        (trace, vectors, trace, vectors),
        (sure, vectors, exchanged, vectors.roll(1, 0)),
    ]
    by_sets, by_members = [], []
    for own, own_vectors, other, other_vectors in cases:
        sets = set_vectors(own, own_vectors), set_vectors(other, other_vectors)
        by_sets.append(cluster_contrast(*sets, empty, 0.5).item())
        by_members.append(membership_contrast(own, other, 0.5).item())
    assert by_sets == pytest.approx([by_sets[0]] * 3)
    assert by_members[1] == pytest.approx(math.log(2 * CLUSTERS - 1), rel=1e-4)  # as if guessed
    assert by_members[0] < by_members[1] < by_members[2]


@pytest.mark.parametrize("images", [0, 4, 9])
def test_images_contrast_as_in_a_double_loop(images):
    generator = torch.Generator().manual_seed(images)
    seen = directions(images, DIM, generator)
    queue = filled(6, seen)
    check_gradient(
        lambda own, other: instance_contrast(own, other, queue, 0.4),
        lambda own, other: plain_instance_contrast(own, other, seen[-6:].numpy(), 0.4),
        directions(BATCH, DIM, generator),
        directions(BATCH, DIM, generator),
    )


def log_probabilities(seed, count=BATCH):
    scores = torch.randn(count, CLUSTERS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * scores).log_softmax(1)


def test_divergence_is_the_sum_over_clusters():
    check_gradient(divergence, plain_divergence, log_probabilities(0), log_probabilities(1))


@given(st.integers(0, 99), st.integers(0, 99))
def test_divergence_is_zero_for_equal_views_only(first, second):
    value = divergence(log_probabilities(first), log_probabilities(second)).item()
    assert (value == 0) if first == second else value > 0


def test_imbalance():
    """Of the mean over images, not of each."""
    one_each = torch.eye(CLUSTERS).repeat(2, 1).clamp(min=1e-30).log()
    assert imbalance(one_each).item() == pytest.approx(0, abs=1e-6)
    assert imbalance(one_each[:1]).item() == pytest.approx(math.log(CLUSTERS), rel=1e-6)
    mean = log_probabilities(0).exp().numpy().mean(0)
    assert imbalance(log_probabilities(0)).item() == pytest.approx(math.log(CLUSTERS) + sum(mean * np.log(mean)))


def test_imbalance_has_a_gradient_where_a_cluster_has_probability_0():
    scores = torch.tensor([[0.0, 200.0, -200.0], [200.0, 0.0, -200.0]], requires_grad=True)
    value = imbalance(scores.log_softmax(1))
    value.backward()
    assert value.item() == pytest.approx(math.log(3 / 2), rel=1e-6)
    assert scores.grad.isfinite().all()


@given(st.permutations(range(BATCH)), st.permutations(range(CLUSTERS)), st.integers(1, BATCH - 1))
def test_set_vectors(images, clusters, split):
    """The order of images does not matter, clusters keep their own, and parts of a batch add up."""
    generator = torch.Generator().manual_seed(0)
    weights, vectors = log_probabilities(0).exp(), directions(BATCH, DIM, generator)
    sums = torch.zeros(CLUSTERS, DIM, dtype=torch.float64)
    for part in (slice(split), slice(split, BATCH)):
        for q, v in zip(weights[part], vectors[part]):
            for k in range(CLUSTERS):
                sums[k] += q[k] * v
    expected = sums / sums.norm(dim=1, keepdim=True)
    assert torch.allclose(set_vectors(weights, vectors), expected)
    assert torch.allclose(set_vectors(weights[images][:, clusters], vectors[images]), expected[clusters])


@given(st.integers(0, 7), st.lists(st.integers(1, 10), max_size=6))
def test_a_queue_holds_the_last_vectors_each_in_its_turn(length, pushes):
    queue = Queue(length, 2)
    numbers = iter(range(1000))
    for count in pushes:
        queue.push(torch.tensor([[float(next(numbers)), 0.0] for _ in range(count)]))
    total = sum(pushes)
    held = {i % length: float(i) for i in range(max(0, total - length), total)} if length else {}
    assert queue.empty().tolist() == [i not in held for i in range(length)]
    assert {i: queue.rows[i, 0].item() for i in held} == held


def test_own_past_is_left_out():
    """A cluster that stays what it was loses nothing; one that becomes what another was does."""
    sets = torch.eye(DIM, dtype=torch.float64)[:CLUSTERS]
    same, swapped = filled(CLUSTERS, sets), filled(CLUSTERS, sets.roll(1, dims=0))
    assert cluster_contrast(sets, sets, same, 0.05).item() < 1e-6
    assert cluster_contrast(sets, sets, swapped, 0.05).item() == pytest.approx(math.log(2), abs=1e-6)


# --- draws -----------------------------------------------------------------------------------------------------------


def test_draws_follow_the_assignments():
    """The largest of a draw is each cluster as often as its probability says; low temperatures give one cluster."""
    log_q = log_probabilities(3, 1).float().expand(20_000, -1)
    uniform = torch.rand(20_000, CLUSTERS, generator=torch.Generator().manual_seed(0))
    noise = gumbel(uniform)
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert torch.isfinite(gumbel(torch.tensor([0.0, 1 - 2**-24]))).all()
    draws = relaxed_sample(log_q, noise, torch.tensor(0.05))
    shares = draws.argmax(1).bincount(minlength=CLUSTERS) / len(draws)
    assert torch.allclose(shares, log_q[0].exp(), atol=0.015)
    assert draws.amax(1).mean() > 0.95
    assert torch.allclose(draws.sum(1), torch.ones(len(draws)))


@pytest.mark.parametrize("condition", ["concatenate", "add"])
def test_the_bound_is_the_expectation_over_clusters(condition):
    """Averaged over draws, the contrast of images is sum_k q(k|x) times that of embeddings made with cluster k."""
    method = build(condition=condition, instance_queue=0).double()
    generator = torch.Generator().manual_seed(0)
    parts = 1 if condition == "concatenate" else 2
    outputs = tuple(torch.randn(1, DIM, generator=generator, dtype=torch.float64) for _ in range(parts))
    others = directions(BATCH, DIM, generator)
    cold = torch.tensor(0.01, dtype=torch.float64)

    def embeddings(noise):
        spread = tuple(tensor.expand(len(noise), -1) for tensor in outputs)
        return method.heads.twin(spread, noise, 1.0, cold, 0.5)

    def bounds(embedded):
        """log p(i|x, k) for each row, image 0 being the right one."""
        return (embedded @ others.T / 0.5).log_softmax(1)[:, 0]

    chosen = embeddings(1e3 * torch.eye(CLUSTERS, dtype=torch.float64))
    expected = sum(q * bound for q, bound in zip(chosen.log_assignments[0].exp(), bounds(chosen.embeddings)))
    noise = gumbel(torch.rand(20_000, CLUSTERS, generator=generator, dtype=torch.float64))
    found = bounds(embeddings(noise).embeddings)
    assert found.mean().item() == pytest.approx(expected.item(), abs=4 * found.std().item() / math.sqrt(20_000) + 1e-3)


def test_draws_depend_on_the_seed_alone():
    method = build(sampling="gumbel")
    images = torch.zeros(BATCH, 1, 2, 2, dtype=torch.uint8)
    *_, first = method.views(images, 1)
    *_, again = method.views(images, 1)
    *_, other = method.views(images, 2)
    assert first.shape == (BATCH, 2, CLUSTERS)
    assert torch.equal(first, again)
    assert len(torch.cat([first, other]).unique()) == 2 * first.numel()  # views and images have draws of their own


def test_draws_after_an_interruption_are_those_of_a_training_that_ran_through(train):
    drawn = {"whole": [], "again": []}

    class Recording(TCC):
        def views(self, images, seed):
            views = super().views(images, seed)
            drawn[train.name].append((seed, self.gumbel_temperature.item(), views[2]))
            return views

        def after_step(self, embeddings, indices):
            super().after_step(embeddings, indices)
            if train.name == "again" and len(drawn["again"]) == 3 and not train.crashed:
                train.crashed = True
                raise InterruptedError

    module = SimpleNamespace(Options=Options, METHOD=Recording)
    options = {
        "clusters": 3,
        "sampling": "gumbel",
        "epochs": 3,
        "gumbel_temperature": (1.0, 0.25),
        "learning_rate": 1e-4,
    }
    train.name = "whole"
    train(module, "whole", **options)
    train.name, train.crashed = "again", False
    often = {"checkpoint_seconds": 1e-9}
    with pytest.raises(InterruptedError):
        train(module, "again", session=often, **options)
    drawn["again"].pop()  # the step that was not saved
    train(module, "again", session=often, **options)
    assert len(drawn["again"]) == len(drawn["whole"]) == 6
    for (seed, temperature, noise), (same_seed, same_temperature, same_noise) in zip(drawn["whole"], drawn["again"]):
        assert (seed, temperature) == (same_seed, same_temperature)
        assert torch.equal(noise, same_noise)
    assert [temperature for _, temperature, _ in drawn["whole"]] == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])


# --- the whole -------------------------------------------------------------------------------------------------------


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def unit(vector):
    return vector / np.sqrt((vector**2).sum())


class Reference:
    """The loss of one batch with loops over images and clusters."""

    def __init__(self, method, temperature, images_seen, sets_seen):
        self.options, self.temperature = method.options, temperature
        self.images_seen, self.sets_seen = images_seen, sets_seen
        self.keys = [unit(key) for key in method.heads.keys.detach().numpy()]
        self.network = method.heads.instance

    def view(self, outputs, noise):
        """Assignments, set vectors, embeddings."""
        options = self.options
        assignments, embeddings = [], []
        sums = [np.zeros(DIM) for _ in self.keys]
        for i, projection in enumerate(outputs[0]):
            v = unit(projection)
            q = softmax(np.array([v @ key for key in self.keys]) / options.assignment_temperature)
            assignments.append(np.log(q))
            for k, share in enumerate(q):
                sums[k] = sums[k] + share * v
            draw = q if noise is None else softmax((np.log(q) + noise[i]) / self.temperature)
            if options.condition == "concatenate":
                with torch.no_grad():
                    embedding = self.network(torch.from_numpy(np.concatenate([v, draw]))).numpy()
            else:
                mixed = unit(sum(share * key for share, key in zip(draw, self.keys)))
                embedding = mixed + options.instance_weight * unit(outputs[1][i])
            embeddings.append(unit(embedding))
        return assignments, [unit(vector) for vector in sums], embeddings

    def loss(self, *outputs, noise):
        options, half = self.options, len(outputs) // 2
        parts = (outputs[:half], outputs[half:])
        views = [self.view(part, None if noise is None else noise[:, i]) for i, part in enumerate(parts)]
        total = 0
        both = [(views[0], views[1]), (views[1], views[0])]
        for (log_q, sets, embeddings), (log_p, other_sets, other_embeddings) in both:
            share = options.membership_weight
            clusters = (1 - share) * plain_cluster_contrast(
                sets, other_sets, self.sets_seen, options.cluster_temperature
            ) + share * plain_membership_contrast(np.exp(log_q), np.exp(log_p), options.membership_temperature)
            images = plain_instance_contrast(
                embeddings, other_embeddings, self.images_seen, options.instance_temperature
            )
            bound = images + options.kl_weight * plain_divergence(log_q, log_p)
            mean = np.exp(log_q).mean(0)
            lack = math.log(len(mean)) + (mean * np.log(mean)).sum()
            total += options.cluster_weight * clusters + (1 - options.cluster_weight) * bound
            total += options.balance_weight * lack
        return total / 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "condition": "concatenate",
            "sampling": "gumbel",
            "kl_weight": 1.0,
            "balance_weight": 0.0,
            "membership_weight": 0.0,
        },
        {"condition": "concatenate", "kl_weight": 0.3, "cluster_weight": 0.8, "membership_weight": 0.3},
        {"sampling": "gumbel", "instance_weight": 0.7, "gumbel_temperature": (2.0, 1.0)},
    ],
    ids=["defaults", "plain", "concatenate", "draws"],
)
def test_three_steps_agree_with_a_plain_implementation(options):
    method = build(**options).double()
    method.start_epoch(epoch(0))
    temperature = method.options.gumbel_temperature[0]
    generator = torch.Generator().manual_seed(1)
    number = 2 if options.get("condition") == "concatenate" else 4
    images_seen, sets_seen = [], []
    for step in range(3):
        outputs = [torch.randn(BATCH, DIM, generator=generator, dtype=torch.float64) for _ in range(number)]
        noise = None
        if options.get("sampling") == "gumbel":
            noise = gumbel(torch.rand(BATCH, 2, CLUSTERS, generator=generator, dtype=torch.float64))
        rest = () if noise is None else (noise,)
        indices = torch.arange(BATCH) + step
        reference = Reference(method, temperature, images_seen[-7:], sets_seen[-2 * CLUSTERS :])
        drawn = None if noise is None else noise.numpy()
        check_gradient(
            lambda *leaves: method.loss((*leaves, *rest), indices)["loss"],  # noqa: B023  # called at once
            lambda *arrays: reference.loss(*arrays, noise=drawn),  # noqa: B023
            *outputs,
        )
        method.after_step((*outputs, *rest), indices)
        half = number // 2
        arrays = [output.numpy() for output in outputs]
        firsts = reference.view(arrays[:half], None if drawn is None else drawn[:, 0])
        assignments, sets, embeddings = reference.view(arrays[half:], None if drawn is None else drawn[:, 1])
        images_seen += embeddings
        sets_seen += [(vector, k) for k, vector in enumerate(sets)]
        probable = (np.exp(firsts[0]) + np.exp(assignments)).argmax(1)
        assert method.labels[indices].tolist() == probable.tolist()


def test_the_loss_changes_nothing():
    """It may be called twice for a batch."""
    method = build(instance_queue=3)
    outputs = tuple(torch.randn(BATCH, DIM) for _ in range(4))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    first = method.loss(outputs, torch.arange(BATCH))["loss"]
    assert torch.equal(first, method.loss(outputs, torch.arange(BATCH))["loss"])
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    method.after_step(outputs, torch.arange(BATCH))
    assert method.images_seen.pushed == BATCH
    assert method.clusters_seen.pushed == CLUSTERS


def test_own_parts_differ_however_alike_features_are():
    """Else the clusters alone could tell images apart, and would have to be uncertain."""
    method = build(projection_dim=16)
    features = 10 + torch.randn(64, Plain.feature_dim)
    _, own = method.heads.project(features)
    own = torch.nn.functional.normalize(own, dim=1)
    assert own.mean(0).norm() < 0.2
    assert own.std(0).mean() * math.sqrt(16) > 0.9


def test_a_teacher_follows_and_learns_nothing_itself():
    method = build(teacher_momentum=0.75)
    images = torch.randint(0, 256, (BATCH, 1, 2, 2), dtype=torch.uint8)
    learned = [parameter for group in method.parameter_groups() for parameter in group["params"]]
    students = [*method.backbone.parameters(), *method.heads.parameters()]
    assert [id(p) for p in learned] == [id(p) for p in students]
    teachers = list(method.teacher.parameters())
    starts = [parameter.clone() for parameter in teachers]
    assert all(torch.equal(start, student) for start, student in zip(starts, students))
    embeddings = method.embed(method.views(images, 0))
    assert [tensor.requires_grad for tensor in embeddings] == [True, True, False, False]
    method.loss(embeddings, torch.arange(BATCH))["loss"].backward()
    assert all(parameter.grad is None for parameter in teachers)
    with torch.no_grad():
        for student in students:
            student -= 0.1 * student.grad
        method.after_step(tuple(tensor.detach() for tensor in embeddings), torch.arange(BATCH))
    for teacher, start, student in zip(teachers, starts, students):
        assert torch.allclose(teacher, 0.75 * start + 0.25 * student, atol=1e-7)


# --- collapse --------------------------------------------------------------------------------------------------------


def test_one_cluster_for_all_is_found():
    method = build()
    method.start_epoch(epoch(0))
    outputs = method.heads.keys.detach()[[0]].expand(COUNT, -1)
    method.loss((outputs,) * 4, torch.arange(COUNT))
    method.after_step((), torch.arange(COUNT))
    with pytest.raises(
        DeepclustError, match="collapsed in epoch 1: cluster_entropy is 0, nearly all images are in one"
    ):
        check_collapse(method.end_epoch(epoch(0)), 0)


def test_no_cluster_for_any_is_found(train):
    """Assignments that are uniform, though some cluster is always the largest."""
    with pytest.raises(DeepclustError, match=r"assignment_contrast is .*all clusters alike"):
        train(tcc, clusters=3, epochs=1, assignment_temperature=1e4)
