"""Trainings that end while they cluster go on as if nothing had happened."""

import json

import pytest

from deepclust.pretraining import deepcluster, deepcluster_v2, streamed_kmeans

SMALL = {
    "deepcluster": (deepcluster, {"clusters": 7, "components": 5, "sobel": False}),
    "deepcluster_v2": (deepcluster_v2, {"clusters": 6, "heads": 2, "projection_hidden": 16, "projection_dim": 8}),
}


def records(result):
    lines = (result.path / "training.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if "second" not in key} for line in lines]


@pytest.mark.parametrize("name", SMALL)
def test_in_the_middle_of_k_means(train, monkeypatch, name):
    """In the first epoch, where there is no checkpoint yet, and in the third, after one of its very start."""
    module, options = SMALL[name]
    options = options | {"epochs": 3, "learning_rate": 0.05}
    monkeypatch.setattr(streamed_kmeans, "_fastest", lambda device: "torch")
    expected = train(module, name="expected", **options)
    iterate, passes = streamed_kmeans.iterate, []

    def interrupted(*arguments, **keywords):
        found = iterate(*arguments, **keywords)
        passes.append(len(passes))
        if len(passes) in ends:
            raise InterruptedError
        return found

    monkeypatch.setattr(streamed_kmeans, "iterate", interrupted)
    heads = options.get("heads", 1)
    ends = {1, 1 + 2 * heads + 1}  # the first of all; then, two whole epochs later, one of the third
    often = {"checkpoint_seconds": 1e-9}
    for _ in range(2):
        with pytest.raises(InterruptedError):
            train(module, name="killed", session=often, **options)
    result = train(module, name="killed", session=often, **options)
    assert len(passes) == 1 + 3 * heads + 1
    assert result.weights == expected.weights
    assert records(result) == records(expected)
