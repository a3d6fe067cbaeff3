import json
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from head_samples import OPTIONS, accuracy, all_heads, mixture, nearest, scaled
from safetensors.numpy import load_file

from deepclust.core import registry
from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.features.neighbors import half_whitened
from deepclust.heads import kmeans
from deepclust.heads.kit import voting
from deepclust.heads.kit.clustering import ClusteringJob, cluster
from deepclust.heads.kit.head import HeadFacts, HeadOptions, Prediction, SeedResult, TrainingData
from deepclust.heads.kit.store import predict


@pytest.fixture
def splits(tmp_path):
    """Features of three splits by two backbones, 4 groups."""
    generator = np.random.default_rng(0)
    files = {}
    for split, count in (("train", 80), ("unlabeled", 60), ("test", 40)):
        labels = np.arange(count) % 4
        files[split] = []
        for backbone, dimension in (("a", 5), ("b", 7)):
            features = np.eye(dimension)[labels] * 5 + generator.normal(0, 0.1, (count, dimension))
            path = tmp_path / "features" / backbone / split / "features.npy"
            path.parent.mkdir(parents=True)
            np.save(path, features.astype(np.float16))
            files[split].append(path)
    return files


def make_run(splits, method="kmeans", options=None, seeds=(0, 1), **changes):
    options = options or kmeans.Options(n_init=2)
    facts = {"k": 4, "backbones": ["a", "b"], "train": ["train"], "features": splits, **changes}
    return ClusteringJob(method=method, options=options, seeds=list(seeds), **facts)


def execute(run, folder, code="c0de"):
    clusters, log = folder / "clusters.safetensors", folder / "seeds.json"
    cluster(run, clusters, log, code=code, progress=Progress())
    return load_file(clusters), json.loads(log.read_text())


def test_results_of_every_seed_and_split(splits, tmp_path):
    tensors, log = execute(make_run(splits, seeds=[3, 7]), tmp_path / "run")
    assert set(tensors) == {
        f"seed{seed}/{name}"
        for seed in (3, 7)
        for name in ("assignments/train", "assignments/unlabeled", "assignments/test", "weights/centroids")
    }
    for split, count in (("train", 80), ("unlabeled", 60), ("test", 40)):
        assignments = tensors[f"seed3/assignments/{split}"]
        assert assignments.dtype == np.int32
        assert np.array_equal(np.bincount(assignments), [count // 4] * 4)
    assert [entry["seed"] for entry in log["seeds"]] == [3, 7]
    assert all(entry["status"] == "ok" and entry["sizes"] == [20] * 4 for entry in log["seeds"])
    objectives = {entry["seed"]: entry["objective"] for entry in log["seeds"]}
    assert log["selected"] == min(objectives, key=objectives.get)
    assert (log["k"], log["method"], log["backbones"]) == (4, "kmeans", ["a", "b"])


def test_more_seeds_compute_only_the_new_ones(splits, tmp_path, monkeypatch):
    first, _ = execute(make_run(splits, seeds=[0, 1]), tmp_path / "run")
    asked = []
    fit = kmeans.fit
    monkeypatch.setattr(
        kmeans, "fit", lambda data, k, seeds, *rest: asked.append(list(seeds)) or fit(data, k, seeds, *rest)
    )
    more, log = execute(make_run(splits, seeds=[0, 1, 2]), tmp_path / "run")
    assert asked == [[2]]
    assert all(np.array_equal(more[name], first[name]) for name in first)
    afresh, _ = execute(make_run(splits, seeds=[2, 1, 0]), tmp_path / "other")
    assert all(np.array_equal(more[name], afresh[name]) for name in more)
    assert len(log["seeds"]) == 3


@pytest.mark.parametrize("rest", [0, 5, 100, -1])
def test_a_damaged_seed_is_fitted_again(splits, tmp_path, capsys, rest):
    first, _ = execute(make_run(splits, seeds=[0, 1]), tmp_path / "run")
    (kept,) = (tmp_path / "run").glob(".seeds-*/1.safetensors")
    kept.write_bytes(kept.read_bytes()[:rest])
    again, _ = execute(make_run(splits, seeds=[0, 1]), tmp_path / "run")
    assert f"{kept} is damaged" in capsys.readouterr().err
    assert all(np.array_equal(again[name], first[name]) for name in first)


def test_the_same_run_gives_the_same_file(splits, tmp_path):
    for name in ("one", "two"):
        execute(make_run(splits), tmp_path / name)
    one, two = ((tmp_path / name / "clusters.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_killed_job_keeps_its_finished_seeds(splits, tmp_path, monkeypatch):
    fit = kmeans.fit

    def dies_after_one(*arguments):
        yield next(fit(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(kmeans, "fit", dies_after_one)
    with pytest.raises(KeyboardInterrupt):
        execute(make_run(splits), tmp_path / "run")
    assert not (tmp_path / "run" / "clusters.safetensors").exists()
    asked = []
    monkeypatch.setattr(
        kmeans, "fit", lambda data, k, seeds, *rest: asked.append(list(seeds)) or fit(data, k, seeds, *rest)
    )
    execute(make_run(splits), tmp_path / "run")
    assert asked == [[1]]


@pytest.mark.parametrize("change", ["code", "options", "k", "train", "features"])
def test_seeds_are_not_taken_over_when_something_else_changed(splits, tmp_path, monkeypatch, change):
    execute(make_run(splits, seeds=[0]), tmp_path / "run")
    [before] = (tmp_path / "run").glob(".seeds-*")
    changes = {
        "k": {"k": 3},
        "train": {"train": ["train", "unlabeled"]},
        "options": {"options": kmeans.Options(n_init=3)},
    }
    if change == "features":
        features = np.load(splits["test"][0])
        features[0, 0] += 1
        np.save(splits["test"][0], features)
    asked = []
    fit = kmeans.fit
    monkeypatch.setattr(
        kmeans, "fit", lambda data, k, seeds, *rest: asked.append(list(seeds)) or fit(data, k, seeds, *rest)
    )
    code = "other" if change == "code" else "c0de"
    execute(make_run(splits, seeds=[0], **changes.get(change, {})), tmp_path / "run", code)
    assert asked == [[0]]
    [after] = (tmp_path / "run").glob(".seeds-*")
    assert after != before  # and the stale one is gone


def test_fitting_on_two_splits(splits, tmp_path):
    run = make_run(splits, train=["train", "unlabeled"])
    _, log = execute(run, tmp_path / "run")
    assert log["seeds"][0]["sizes"] == [35] * 4


@pytest.mark.parametrize("method", ["spectral", "agglomerative", "umap"])
def test_a_graph_of_two_splits_joins_them(splits, tmp_path, method):
    """Neighbors of images of both: clusters are those of the classes, not those of the splits."""
    joined = np.concatenate([np.load(splits[split][0]) for split in ("train", "unlabeled")])
    np.save(tmp_path / "near.npy", nearest(joined, 5))
    options = registry.load("heads", method).Options(neighbors=5)
    changes = {"train": ["train", "unlabeled"], "neighbors": [tmp_path / "near.npy"] * 2}
    tensors, log = execute(make_run(splits, method, options, **changes), tmp_path / "run")
    assert log["seeds"][0]["sizes"] == [35] * 4
    first, second = (tensors[f"seed0/assignments/{split}"] for split in ("train", "unlabeled"))
    assert np.array_equal(first[:4], second[:4])
    with pytest.raises(DeepclustError, match="not those of the 80 training images"):
        execute(make_run(splits, method, options, **{**changes, "train": ["train"]}), tmp_path / "other")


@pytest.mark.parametrize("wrong", [-1, 80])
def test_neighbors_beyond_the_images_are_refused(splits, tmp_path, wrong):
    """A row number that is none ends the process in the libraries that follow it."""
    near = nearest(np.load(splits["train"][0]), 5)
    near[70, 2] = wrong
    np.save(tmp_path / "near.npy", near)
    options = registry.load("heads", "spectral").Options(neighbors=5)
    with pytest.raises(DeepclustError, match="not those of the 80 training images"):
        execute(make_run(splits, "spectral", options, neighbors=[tmp_path / "near.npy"] * 2), tmp_path / "run")


@pytest.mark.parametrize("method", ["spectral", "temi"])
def test_a_head_that_wants_more_neighbors_than_there_are_says_so(splits, tmp_path, method):
    """How many images there are is not always known before."""
    np.save(tmp_path / "near.npy", nearest(np.load(splits["train"][0]), 5))
    changes = {"backbones": ["a"], "neighbors": [tmp_path / "near.npy"]}
    files = {split: paths[:1] for split, paths in splits.items()}
    with pytest.raises(DeepclustError, match=r"^6 neighbors are wanted, an image has 5: lower [^\n]*$"):
        options = registry.load("heads", method).Options(neighbors=6)
        execute(make_run(files, method, options, **changes), tmp_path / "run")


@pytest.mark.parametrize("method", ["spectral", "agglomerative", "umap"])
def test_training_images_have_the_cluster_that_the_method_gave_them(tmp_path, monkeypatch, method):
    """Not that of the vote, in which fewer images take part than there are; over two splits."""
    monkeypatch.setattr(voting, "LANDMARKS", 60)
    points = np.random.default_rng(0).normal(size=(330, 4)).astype(np.float16)
    parts = {"train": points[:200], "unlabeled": points[200:300], "test": points[300:]}
    files = {split: [tmp_path / f"{split}.npy"] for split in parts}
    for split, part in parts.items():
        np.save(files[split][0], part)
    near = nearest(points[:300], 10)
    np.save(tmp_path / "near.npy", near)
    head = registry.load("heads", method)
    options = head.Options(neighbors=10)
    changes = {"train": ["train", "unlabeled"], "neighbors": [tmp_path / "near.npy"], "backbones": ["a"]}
    tensors, _ = execute(make_run(files, method, options, [3], **changes), tmp_path / "run")
    [result] = head.fit(TrainingData([points[:300]], [near]), 4, [3], options, Progress())
    stored = np.concatenate([tensors[f"seed3/assignments/{split}"] for split in ("train", "unlabeled")])
    assert np.array_equal(stored, result.training)
    shares = np.concatenate([tensors[f"seed3/probabilities/{split}"] for split in ("train", "unlabeled")])
    assert np.array_equal(shares, np.eye(4)[stored])
    voted = predict(tmp_path / "run" / "clusters.safetensors", [points]).assignments
    assert np.mean(voted[:300] != stored) > 0.05
    assert np.array_equal(voted[300:], tensors["seed3/assignments/test"])


@pytest.mark.parametrize(("split", "seeds"), [("test", [0, 1]), ("train", [0])])
@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e20])
def test_values_that_no_head_can_use_are_seen_before_fitting(splits, tmp_path, monkeypatch, split, seeds, value):
    path = splits[split][1]
    broken = np.load(path).astype(np.float32)
    broken[[3, 5], 1] = value
    np.save(path, broken)
    fitted = []
    monkeypatch.setattr(kmeans, "fit", lambda *_: fitted.append(1) or [])
    with pytest.raises(DeepclustError, match=f"2 images of {split} .*{path}"):
        execute(make_run(splits, seeds=seeds), tmp_path / "run")
    assert not fitted


def test_saved_weights_assign_new_images(splits, tmp_path):
    tensors, log = execute(make_run(splits, options=kmeans.Options(normalize="standardize")), tmp_path / "run")
    clusters = tmp_path / "run" / "clusters.safetensors"
    features = [np.load(path) for path in splits["test"]]
    for seed in (0, 1):
        again = predict(clusters, features, seed).assignments
        assert np.array_equal(again, tensors[f"seed{seed}/assignments/test"])
    selected = predict(clusters, features).assignments
    assert np.array_equal(selected, tensors[f"seed{log['selected']}/assignments/test"])
    with pytest.raises(DeepclustError, match=r"\[5, 7\].*\[7, 5\]"):
        predict(clusters, features[::-1])
    with pytest.raises(DeepclustError, match=r"shape \(5,\)"):
        predict(clusters, [features[0][0], features[1]])
    with pytest.raises(DeepclustError, match="list"):
        predict(clusters, features[0])
    with pytest.raises(DeepclustError, match=r"of 9, \d+ images"):
        predict(clusters, [features[0], features[1][:9]])
    with pytest.raises(DeepclustError, match="seed 9"):
        predict(clusters, features, 9)
    clusters.write_bytes(clusters.read_bytes()[:-9])
    with pytest.raises(DeepclustError, match=r"clusters\.safetensors is damaged"):
        predict(clusters, features)


def record(path, identity):
    """The part of a features' record that says whose they are."""
    path.with_suffix(".provenance.json").write_text(json.dumps({"options": {"identity": identity}}))


@pytest.fixture
def alike(tmp_path):
    """Two backbones whose features have the same width, on two splits, with their records."""
    generator = np.random.default_rng(0)
    files = {"train": [], "test": []}
    for split, backbone in ((split, backbone) for split in files for backbone in "ab"):
        path = tmp_path / f"{split}-{backbone}.npy"
        centres = np.eye(5) if backbone == "a" else np.eye(5)[::-1]
        np.save(path, 5 * centres[np.arange(80) % 4] + generator.normal(0, 0.1, (80, 5)))
        record(path, f"identity of {backbone}")
        files[split].append(path)
    return files


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_features_of_another_backbone_are_refused(alike, tmp_path, kind):
    tensors, log = execute(make_run(alike), tmp_path / "run")
    clusters = kind(tmp_path / "run" / "clusters.safetensors")
    a, b = map(kind, alike["test"])
    expected = tensors[f"seed{log['selected']}/assignments/test"]
    assert np.array_equal(predict(clusters, [a, b]).assignments, expected)
    assert np.array_equal(predict(clusters, (a, b)).assignments, expected)
    for wrong in ([b, a], [a, a]):
        with pytest.raises(DeepclustError, match=r"test-[ab]\.npy is not of the backbone.*\([ab]\)"):
            predict(clusters, wrong)
    with pytest.raises(DeepclustError, match="dimensions"):
        predict(clusters, a)
    alike["test"][1].with_suffix(".provenance.json").unlink()
    with pytest.raises(DeepclustError, match=r"test-b\.npy has no record"):
        predict(clusters, [a, b])
    with pytest.raises(DeepclustError, match=r"gone\.npy cannot be read"):
        predict(clusters, [a, str(tmp_path / "gone.npy")])
    (tmp_path / "empty.npy").touch()
    with pytest.raises(DeepclustError, match=r"empty\.npy is no array"):
        predict(clusters, [a, tmp_path / "empty.npy"])


def test_one_backbone_needs_no_list(alike, tmp_path):
    run = make_run({split: paths[:1] for split, paths in alike.items()}, backbones=["a"])
    tensors, log = execute(run, tmp_path / "run")
    found = predict(tmp_path / "run" / "clusters.safetensors", str(alike["test"][0]))
    assert np.array_equal(found.assignments, tensors[f"seed{log['selected']}/assignments/test"])


def test_arrays_do_not_say_whose_they_are(alike, tmp_path):
    tensors, log = execute(make_run(alike), tmp_path / "run")
    with pytest.warns(UserWarning, match="not checked"):
        found = predict(tmp_path / "run" / "clusters.safetensors", [np.load(path).tolist() for path in alike["test"]])
    assert np.array_equal(found.assignments, tensors[f"seed{log['selected']}/assignments/test"])


def test_splits_are_read_by_the_same_backbone(alike, tmp_path):
    record(alike["test"][1], "another identity")
    with pytest.raises(DeepclustError, match="train, test by b .* extract them again"):
        execute(make_run(alike), tmp_path / "run")


def test_clusters_that_do_not_know_their_backbone_take_no_files(alike, splits, tmp_path):
    execute(make_run({"train": splits["train"][:1]}, backbones=["a"]), tmp_path / "run")
    with pytest.raises(DeepclustError, match="cluster again"):
        predict(tmp_path / "run" / "clusters.safetensors", alike["test"][:1])


@pytest.mark.parametrize("method", all_heads())
def test_saved_weights_of_every_head_keep_the_normalisation(tmp_path, method):
    """New images are projected as the training images were, by what is in the file."""
    points, classes = mixture(300, 3)
    files = {"train": [tmp_path / "train.npy"], "test": [tmp_path / "test.npy"]}
    np.save(files["train"][0], points[:200])
    np.save(files["test"][0], points[200:])
    near = tmp_path / "near.npy"
    np.save(near, nearest(half_whitened(scaled(points[:200])), 10))
    changes = {"k": 3, "backbones": ["a"], "neighbors": [near]}
    members = {"kmeans": tmp_path / "kmeans" / "clusters.safetensors"} if method == "consensus" else {}
    for name in ("kmeans", method) if members else (method,):
        head = registry.load("heads", name)
        fewer = {"neighbors": 10} if head.FACTS.needs_neighbors else {}
        options = head.Options(**{**OPTIONS.get(name, {}), "normalize": "half_whiten", **fewer})
        run = make_run(files, name, options, members=members if name == method else {}, **changes)
        tensors, _ = execute(run, tmp_path / name)
    for seed in (0, 1):
        again = predict(tmp_path / method / "clusters.safetensors", [points[200:]], seed)
        assert np.array_equal(again.assignments, tensors[f"seed{seed}/assignments/test"])
        assert accuracy(classes[200:], again.assignments) >= 0.99


def test_that_every_seed_failed_is_a_result(splits, tmp_path, capsys):
    constant = np.zeros((80, 5), np.float16)
    np.save(splits["train"][0], constant)
    run = make_run({"train": splits["train"][:1]}, backbones=["a"])
    tensors, log = execute(run, tmp_path / "run")
    assert tensors == {} and log["selected"] is None
    assert [(entry["seed"], entry["status"]) for entry in log["seeds"]] == [(0, "failed"), (1, "failed")]
    assert all("1 of 4 clusters" in entry["reason"] for entry in log["seeds"])
    assert capsys.readouterr().err.startswith("warning: every seed failed; seed 0: ")
    with pytest.raises(DeepclustError, match="every seed failed"):
        predict(tmp_path / "run" / "clusters.safetensors", [constant])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda files: np.save(files["train"][1], np.zeros((79, 7), np.float16)), "train differ in number"),
        (lambda files: np.save(files["test"][0], np.zeros((40, 6), np.float16)), "test have other dimensions"),
        (lambda files: np.save(files["train"][0], np.zeros(80, np.float16)), "not a table of features"),
        (lambda files: files.pop("train"), "no features of the training splits train"),
    ],
)
def test_files_that_do_not_fit_together(splits, tmp_path, break_it, message):
    break_it(splits)
    with pytest.raises(DeepclustError, match=message):
        execute(make_run(splits), tmp_path / "run")


class _NeighborHead(types.ModuleType):
    """A head as others will be: needs neighbors, gives probabilities, and one of its seeds fails."""

    FACTS = HeadFacts(needs_neighbors=True, max_backbones=2)

    class Options(HeadOptions):
        __module__ = "deepclust.heads.neighbor_head"

    def fit(self, data, k, seeds, options, progress):
        self.data = data
        for seed in reversed(seeds):
            weights = {"shift": np.array([seed], np.int32)}
            if seed == 1:
                yield SeedResult(seed, {}, None, failure="one cluster took all: lower something")
            else:
                yield SeedResult(seed, weights, float(-seed))

    def predict(self, weights, features, options):
        assignments = ((np.argmax(features[0][:, :4], axis=1) + weights["shift"]) % 4).astype(np.int32)
        return Prediction(assignments, np.eye(4, dtype=np.float16)[assignments])


@pytest.fixture
def neighbor_head(monkeypatch):
    module = _NeighborHead("deepclust.heads.neighbor_head")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_head_with_neighbors_probabilities_and_a_failing_seed(splits, tmp_path, neighbor_head):
    neighbors = [tmp_path / f"{backbone}.npy" for backbone in ("a", "b")]
    for path in neighbors:
        np.save(path, (np.arange(140)[:, None] + [1, 2]).astype(np.int32) % 140)
    run = make_run(splits, "neighbor_head", HeadOptions(), [0, 1, 2], train=["train", "unlabeled"], neighbors=neighbors)
    tensors, log = execute(run, tmp_path / "run")
    assert len(neighbor_head.data.features) == len(neighbor_head.data.neighbors) == 2
    joined = neighbor_head.data.neighbors[1]
    assert joined.dtype == np.int32
    assert np.array_equal(joined[[0, 79, 139]], [[1, 2], [80, 81], [0, 1]])
    assert [(entry["seed"], entry["status"]) for entry in log["seeds"]] == [(0, "ok"), (1, "failed"), (2, "ok")]
    assert log["seeds"][1]["reason"] == "one cluster took all: lower something"
    assert log["selected"] == 2
    assert tensors["seed2/probabilities/test"].dtype == np.float16
    assert not any(name.startswith("seed1/") for name in tensors)


def test_a_seed_that_leaves_clusters_empty(splits, tmp_path, monkeypatch):
    """It is judged by all its training images; other splits do not count."""
    fit = kmeans.fit

    def advises(*arguments):
        return (replace(result, advice="try harder") for result in fit(*arguments))

    def leaves_out(weights, features, options):
        """Of the 80 training images, none of cluster 3; elsewhere all are filled."""
        found = np.arange(len(features[0]), dtype=np.int32) % (3 if len(features[0]) == 80 else 4)
        return Prediction(found)

    monkeypatch.setattr(kmeans, "fit", advises)
    _, log = execute(make_run(splits, seeds=[0]), tmp_path / "run")
    assert log["seeds"][0]["status"] == "ok"
    monkeypatch.setattr(kmeans, "predict", leaves_out)
    _, log = execute(make_run(splits, seeds=[0]), tmp_path / "other")
    assert log["seeds"][0]["reason"] == "only 3 of 4 clusters have images: lower k, or try harder"
    _, log = execute(make_run(splits, seeds=[0], train=["train", "test"]), tmp_path / "third")
    assert log["seeds"][0]["sizes"] == [37, 37, 36, 10]


def test_a_seed_whose_clusters_are_all_but_one_next_to_empty(splits, tmp_path, monkeypatch):
    """Of any head, also one that has no advice."""
    fit, predict = kmeans.fit, kmeans.predict

    def marked(*arguments):
        for result in fit(*arguments):
            yield replace(result, weights=result.weights | {"seed": np.array([result.seed])})

    def giant(weights, features, options):
        found = predict(weights, features, options)
        return found if weights["seed"][0] == 0 else Prediction(np.array([0, 1, 2, 3] + [0] * 996, np.int32))

    monkeypatch.setattr(kmeans, "fit", marked)
    monkeypatch.setattr(kmeans, "predict", giant)
    path = tmp_path / "many.npy"
    np.save(path, np.tile(np.load(splits["train"][0]), (13, 1))[:1000])
    run = make_run({"train": [path]}, backbones=["a"])
    tensors, log = execute(run, tmp_path / "run")
    assert [entry["status"] for entry in log["seeds"]] == ["ok", "failed"]
    assert log["seeds"][1]["reason"].startswith("one cluster has 99.70% of the images: ")
    assert not any(name.startswith("seed1/") for name in tensors)


@pytest.mark.parametrize(
    ("changes", "message"), [({}, "needs the neighbors"), ({"backbones": ["a", "b", "c"]}, "at most 2 backbones")]
)
def test_a_head_says_what_it_needs(splits, tmp_path, neighbor_head, changes, message):
    with pytest.raises(DeepclustError, match=message):
        execute(make_run(splits, "neighbor_head", HeadOptions(), **changes), tmp_path / "run")
