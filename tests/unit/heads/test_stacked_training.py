"""The frame that trained heads share, on a head that learns one number."""

import functools
import json

import numpy as np
import pytest
import torch

from deepclust.core.progress import Progress
from deepclust.heads.kit import stacked, training
from deepclust.heads.kit.stacked import draw, linear, orders
from deepclust.heads.kit.states import StackStates, State
from deepclust.heads.kit.training import Schedule, Training, train

CPU = torch.device("cpu")
PLAN = Schedule(steps=10, epoch=4, k=2, advice="nothing")


class Number(Training):
    """Descends to 3 with SGD and momentum; `diverging` seeds to NaN."""

    def __init__(self, seeds, diverging=(), stop_at=None):
        self.seeds, self.diverging, self.stop_at = list(seeds), diverging, stop_at
        self.value = draw(seeds, "value", (1,), torch.nn.init.normal_).requires_grad_()
        self.optimizers = [torch.optim.SGD([self.value], lr=0.1, momentum=0.9)]
        self.buffers = {"losses": torch.zeros(len(self.seeds))}  # a name that the frame uses as well

    def step(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt
        self.optimizers[0].zero_grad()
        losses = (self.value[:, 0] - 3) ** 2
        losses.sum().backward()
        self.optimizers[0].step()
        self.buffers["losses"] += losses.detach()
        broken = torch.tensor([seed in self.diverging for seed in self.seeds])
        return losses.detach().masked_fill(broken, torch.nan)

    def probabilities(self):
        return torch.eye(2).expand(len(self.seeds), 2, 2)

    def results(self):
        values = self.value.detach().numpy()
        return [({"value": v}, loss) for v, loss in zip(values, self.buffers["losses"].tolist())]


def run(seeds, scratch=None, **options):
    return {r.seed: r for r in train(functools.partial(Number, **options), seeds, PLAN, CPU, scratch, Progress())}


def together(seeds, device):
    return [list(seeds)]


def test_one_entry_per_epoch_and_one_at_the_end():
    [result] = run([0]).values()
    assert [entry["step"] for entry in result.log] == [4, 8, 10]
    losses = [entry["loss"] for entry in result.log]
    assert 4 * losses[0] + 4 * losses[1] + 2 * losses[2] == pytest.approx(result.objective, rel=1e-4)


def test_a_seed_that_diverges_fails_alone(monkeypatch):
    monkeypatch.setattr(training, "stacks", together)
    results = run([0, 1, 2], diverging=[1])
    assert [results[seed].failure is None for seed in (0, 1, 2)] == [True, False, True]
    assert results[1].weights == {}
    assert "diverged by step 4" in results[1].failure


class Unsound(Number):
    """Of finite loss, but the probabilities or the objective of seed 1 are not finite."""

    def __init__(self, seeds, part):
        super().__init__(seeds)
        self.part = part

    def probabilities(self):
        found = super().probabilities().clone()
        if self.part == "probabilities":
            found[self.seeds.index(1), 1, 0] = torch.nan
        return found

    def results(self):
        return [
            (weights, float("nan") if self.part == "objective" and seed == 1 else objective)
            for seed, (weights, objective) in zip(self.seeds, super().results())
        ]


@pytest.mark.parametrize("part", ["probabilities", "objective"])
@pytest.mark.parametrize("seeds", [[0, 1], [1]])
def test_a_finite_loss_is_not_enough(monkeypatch, part, seeds):
    monkeypatch.setattr(training, "stacks", together)
    start = functools.partial(Unsound, part=part)
    results = {result.seed: result for result in train(start, seeds, PLAN, CPU, None, Progress())}
    assert "diverged by step" in results[1].failure
    assert (results[1].weights, results[1].objective) == ({}, None)
    json.dumps([results[1].log], allow_nan=False)
    assert all(results[seed].failure is None for seed in seeds if seed != 1)


@pytest.mark.parametrize("stack", [stacked.stacks, together])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, monkeypatch, stack):
    monkeypatch.setattr(training, "stacks", stack)
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    whole = run([0, 1])
    with pytest.raises(KeyboardInterrupt):
        run([0, 1], tmp_path, stop_at=6)
    assert StackStates(tmp_path).load(0).step == 6
    # Another seed has come meanwhile: it starts anew, beside those that go on.
    resumed = run([0, 2, 1], tmp_path)
    assert resumed[2].log == run([2])[2].log
    for seed in (0, 1):
        assert np.array_equal(resumed[seed].weights["value"], whole[seed].weights["value"])
        assert resumed[seed].log == whole[seed].log
    assert not list(tmp_path.iterdir())


def test_a_damaged_state_starts_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    whole = run([0, 1])
    with pytest.raises(KeyboardInterrupt):
        run([0, 1], tmp_path, stop_at=6)
    state = next(tmp_path.iterdir())
    state.write_bytes(state.read_bytes()[:-1])
    resumed = run([0, 1], tmp_path)
    assert f"{state} is damaged" in capsys.readouterr().err
    assert all(np.array_equal(resumed[seed].weights["value"], whole[seed].weights["value"]) for seed in (0, 1))


class Large(Number):
    """Of more than two seeds the device runs out of memory in the middle."""

    most = 2

    def step(self, step):
        if step == 6 and len(self.seeds) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().step(step)


@pytest.mark.parametrize("scratch", [True, False])
def test_seeds_that_do_not_fit_into_memory_are_trained_in_parts(tmp_path, monkeypatch, scratch):
    whole = run(range(5))
    monkeypatch.setattr(training, "stacks", together)
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    progress = Progress()
    published = []
    monkeypatch.setattr(progress, "publish", published.append)
    folder = tmp_path if scratch else None
    results = {r.seed: r for r in train(Large, range(5), PLAN, CPU, folder, progress)}
    assert sorted(results) == list(range(5))
    for seed, result in results.items():
        np.testing.assert_allclose(result.weights["value"], whole[seed].weights["value"])
        assert [entry["step"] for entry in result.log] == [4, 8, 10]
    assert not list(tmp_path.iterdir())
    assert published[-1]["done"] == published[-1]["total"] == 50
    monkeypatch.setattr(Large, "most", 0)
    with pytest.raises(torch.OutOfMemoryError):
        list(train(Large, [0, 1], PLAN, CPU, None, progress))


def test_seconds_are_those_of_all_attempts_and_shared_in_a_stack(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "stacks", together)
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run([0, 1], tmp_path, stop_at=6)
    states = StackStates(tmp_path)
    for seed in (0, 1):
        state = states.load(seed)
        assert 0 < float(state.tensors["run/seconds"]) < 60
        earlier = torch.tensor([1000.0 * (1 + seed)], dtype=torch.float64)
        states.save(seed, State(state.step, state.log, {**state.tensors, "run/seconds": earlier}))
    resumed = run([0, 1, 2], tmp_path)
    assert 1000 < resumed[0].seconds < 1060 and 2000 < resumed[1].seconds < 2060 and resumed[2].seconds < 60
    assert resumed[1].seconds - resumed[0].seconds == pytest.approx(1000)


def test_states_come_back_as_they_were(tmp_path):
    tensors = {"a": torch.randn(1, 2, 3), "b/c": torch.tensor([7])}
    StackStates(tmp_path).save(4, State(11, "[]", tensors))
    loaded = StackStates(tmp_path).load(4)
    assert (loaded.step, loaded.log) == (11, "[]")
    assert all(torch.equal(loaded.tensors[name], tensors[name]) for name in tensors)
    assert StackStates(tmp_path).step(5) == 0


def test_draws_and_orders_of_a_seed_do_not_depend_on_the_others():
    for make in (
        lambda seeds: draw(seeds, "weight", (2, 3), torch.nn.init.normal_),
        lambda seeds: orders(seeds, 20, epoch=1),
    ):
        alone, several = make([5]), make([1, 5])
        assert torch.equal(several[1], alone[0])
        assert not torch.equal(several[0], several[1])
    assert not torch.equal(orders([5], 20, 0), orders([5], 20, 1))
    assert sorted(orders([5], 20, 0)[0].tolist()) == list(range(20))


@pytest.mark.parametrize("shared", [True, False])
def test_linear_equals_a_layer_per_seed_and_head(shared):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(2, 3, 5, 4, generator=generator), torch.randn(2, 3, 5, generator=generator)
    inputs = torch.randn(*((2, 4, 7) if shared else (2, 3, 4, 7)), generator=generator)
    found = linear(weight, inputs, bias)
    for seed in range(2):
        for head in range(3):
            own = inputs[seed] if shared else inputs[seed, head]
            expected = torch.nn.functional.linear(own.T, weight[seed, head], bias[seed, head]).T
            torch.testing.assert_close(found[seed, head], expected)
