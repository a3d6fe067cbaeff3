import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images, write_encoded, write_raw
from deepclust.models.model import Model
from deepclust.pretraining import simclr
from deepclust.pretraining.engine import trainer

CPU = torch.device("cpu")


def variant(**methods):
    """SimCLR with some of its methods replaced."""
    return SimpleNamespace(Options=simclr.Options, METHOD=type("Variant", (simclr.SimCLR,), methods))


def log_of(result):
    return [json.loads(line) for line in (result.path / "training.jsonl").read_text().splitlines()]


def test_training_leaves_a_backbone_and_a_log(train):
    result = train(epochs=2, image_size=12)
    model = Model.load(result.path / "model.json", CPU)
    assert model.spec["image_size"] == 12
    assert (model.spec["dataset"], model.spec["splits"], model.spec["epochs"]) == ("noise", ["train"], 2)
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    assert model.features(model.preprocess(images)).shape == (4, 256)
    log = log_of(result)
    assert [line["epoch"] for line in log] == [1, 2]
    assert {"loss", "accuracy", "learning_rate", "seconds", "images_per_second", "feature_std"} <= log[0].keys()
    assert result.states == []


def test_the_seed_decides(train):
    same, again, other = (train(name=n, seed=s, epochs=1) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert same.weights == again.weights
    assert same.weights != other.weights


def test_training_lowers_the_loss(train):
    mild = {"crop_scale": (0.9, 1), "flip_probability": 0, "jitter_probability": 0}
    losses = [line["loss"] for line in log_of(train(epochs=8, learning_rate=0.1, augmentation=mild))]
    assert losses[-1] < 0.5 * losses[0]  # three seeds on AVX2, AVX512 and AMX: 0.16 to 0.27


def test_where_images_are_kept_changes_nothing(train, monkeypatch):
    resident = train(name="a")
    monkeypatch.setattr("deepclust.pretraining.engine.image_store.CPU_BUDGET", 0)
    assert train(name="b").weights == resident.weights


def test_encoded_images_of_all_sizes_train_too(train, tmp_path):
    files = []
    for height, width in [(12, 30), (25, 9), (16, 16), (40, 40)]:
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
            buffer, "PNG"
        )
        files.append(buffer.getvalue())
    write_encoded(tmp_path / "encoded", files, 3)
    result = train(splits=[Images(tmp_path / "encoded")], image_size=12, epochs=1)
    model = Model.load(result.path / "model.json", CPU)
    assert model.preprocess(torch.zeros(1, 3, 20, 30, dtype=torch.uint8)).shape == (1, 3, 12, 12)


def test_batches_are_no_larger_than_the_dataset(train):
    assert len(log_of(train(batch_size=1000, epochs=1))) == 1


class Stateful(simclr.SimCLR):
    """Uses every hook: pseudo-labels from all features per epoch, a bank, a layer that starts anew."""

    def __init__(self, options, backbone, images):
        super().__init__(options, backbone, images)
        self.register_buffer("labels", torch.zeros(images.count, dtype=torch.long))
        self.register_buffer("bank", torch.zeros(images.count, options.projection_dim))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.classifier = torch.nn.Linear(options.projection_dim, 4)

    def start_epoch(self, epoch):
        features = epoch.features(torch.arange(40))
        assert features.shape == (len(self.labels), 256)
        generator = torch.Generator().manual_seed(epoch.seed)
        centers = features[torch.randperm(len(features), generator=generator)[:4]]
        self.labels.copy_(torch.cdist(features, centers).argmin(1))
        self.classifier.weight.data.normal_(std=0.01, generator=generator)
        epoch.forget(self.classifier.parameters())

    def order(self, count, seed):
        weights = 1 / self.labels.bincount(minlength=4)[self.labels]
        return weights.multinomial(count, replacement=True, generator=torch.Generator().manual_seed(seed))

    def loss(self, embeddings, indices):
        scalars = super().loss(embeddings, indices)
        scores = self.classifier(embeddings[0] + self.bank[indices])
        loss = scalars["loss"] + torch.nn.functional.cross_entropy(scores, self.labels[indices])
        return scalars | {"loss": loss}

    def after_step(self, embeddings, indices):
        self.bank[indices] = embeddings[1]
        self.steps += 1

    def end_epoch(self, epoch):
        return {"largest_cluster": self.labels.bincount().max().item()}

    def parameter_groups(self):
        body = [p for name, p in self.named_parameters() if not name.startswith("classifier")]
        return [{"params": body}, {"params": list(self.classifier.parameters()), "weight_decay": 0.0}]

    def learning_rates(self, position):
        return [super().learning_rates(position)[0], 0.01]


@pytest.mark.parametrize("crash_at", [1, 2, 3, 5])
def test_a_method_with_state_continues_exactly(train, crash_at):
    class Crashing(Stateful):
        def after_step(self, embeddings, indices):
            super().after_step(embeddings, indices)
            if self.steps == crash_at and not train.crashed:
                train.crashed = True
                raise InterruptedError

    module = SimpleNamespace(Options=simclr.Options, METHOD=Crashing)
    train.crashed = True
    expected = train(module, name="expected", epochs=3, learning_rate=0.05)
    train.crashed = False
    often = {"checkpoint_seconds": 1e-9}
    with pytest.raises(InterruptedError):
        train(module, name="crashed", session=often, epochs=3, learning_rate=0.05)
    result = train(module, name="crashed", session=often, epochs=3, learning_rate=0.05)
    assert result.weights == expected.weights
    untimed = [[{k: v for k, v in x.items() if "second" not in k} for x in log_of(r)] for r in (result, expected)]
    assert untimed[0] == untimed[1]
    assert log_of(result)[0]["largest_cluster"] > 0


def out_of_memory_above(limit):
    def embed(self, views):
        if len(views[0]) > limit:
            raise torch.OutOfMemoryError("too large")
        return simclr.SimCLR.embed(self, views)

    return variant(embed=embed)


def test_out_of_memory_halves_micro_batches_and_keeps_the_batch(train, capsys):
    result = train(out_of_memory_above(5), epochs=2)
    assert len(log_of(result)) == 2
    printed = capsys.readouterr().out
    assert printed.count("out of memory") == 2  # 16 to 8 to 4, once
    assert "micro-batches of 4 images, still 16 images per step" in printed


@pytest.mark.parametrize("batch", [2, 3, 15, 16])
def test_out_of_memory_for_the_fewest_images_is_an_error(train, batch):
    with pytest.raises(DeepclustError, match="out of memory"):
        train(out_of_memory_above(0), batch_size=batch)


def test_micro_batches_are_never_single_images(train):
    """15 in twos would leave one over, which batch normalisation cannot take."""
    sizes = set()

    def embed(self, views):
        if len(views[0]) > 3:
            raise torch.OutOfMemoryError("too large")
        sizes.add(len(views[0]))
        return simclr.SimCLR.embed(self, views)

    train(variant(embed=embed), batch_size=15, epochs=1)
    assert sizes == {2, 3}


def test_divergence_ends_the_training(train):
    def loss(self, embeddings, indices):
        scalars = simclr.SimCLR.loss(self, embeddings, indices)
        return {"loss": scalars["loss"] * torch.nan}

    with pytest.raises(DeepclustError, match=r"diverged in epoch 1: loss is nan.*learning_rate"):
        train(variant(loss=loss))


def test_a_diverged_state_is_not_saved(train, tmp_path):
    def loss(self, embeddings, indices):
        return {"loss": embeddings[0].sum() * torch.inf}

    with pytest.raises(DeepclustError, match="diverged"):
        train(variant(loss=loss), session={"checkpoint_seconds": 1e-9})
    assert list(tmp_path.rglob("*.pt")) == []


def test_collapse_ends_the_training(train, tmp_path):
    write_raw(tmp_path / "same", [np.full((20, 1, 8, 8), 7, np.uint8)], (1, 8, 8))
    with pytest.raises(DeepclustError, match=r"collapsed in epoch 1: feature_std.*augmentation") as error:
        train(splits=[Images(tmp_path / "same")])
    log = Path(str(error.value).rpartition(" ")[2])  # which tells what happened
    assert json.loads(log.read_text())["feature_std"] < 1e-3


def stop_after_epoch(epoch):
    """A session and a method that gets a signal at the end of an epoch."""
    stops = []

    def end_epoch(self, current):
        if current.number == epoch:
            stops[0](15)
        return {}

    return {"listen": stops.append}, variant(end_epoch=end_epoch)


def test_resume_from_continues_under_other_options(train, tmp_path, capsys):
    session, module = stop_after_epoch(1)
    with pytest.raises(DeepclustError, match=r"signal 15 in epoch 3.*run again"):
        train(module, name="old", session=session, epochs=4)
    (state,) = tmp_path.glob("old/.state-*")
    capsys.readouterr()
    result = train(name="old", epochs=6, learning_rate=0.05, weight_decay=1e-3, resume_from=str(state))
    assert f"continuing from {state}: epoch 3, step 0" in capsys.readouterr().out
    log = log_of(result)
    assert [line["epoch"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert log[1]["learning_rate"] > 0.05 > log[2]["learning_rate"]
    assert result.states == [state]  # of another training: not ours to remove


@pytest.mark.parametrize("change", [{"optimizer": "adamw"}, {"projection_dim": 32}])
def test_resume_from_refuses_what_does_not_fit(train, tmp_path, change):
    session, module = stop_after_epoch(0)
    with pytest.raises(DeepclustError, match="signal"):
        train(module, name="old", session=session)
    (state,) = tmp_path.glob("old/.state-*/*.pt")
    with pytest.raises(DeepclustError, match="does not fit"):
        train(name="new", resume_from=str(state), **change)


def test_resume_from_refuses_a_state_beyond_the_last_epoch(train, tmp_path):
    session, module = stop_after_epoch(1)
    with pytest.raises(DeepclustError, match="signal"):
        train(module, name="old", session=session, epochs=4)
    (state,) = tmp_path.glob("old/.state-*")
    with pytest.raises(DeepclustError, match=r"epoch 3, step 0.*epochs: 1"):
        train(name="new", epochs=1, resume_from=str(state))
    assert not (tmp_path / "new" / "model.json").exists()
    assert len(log_of(train(name="new", epochs=2, resume_from=str(state)))) == 2  # just trained


def test_other_batches_start_the_epoch_anew(train, tmp_path):
    class Interrupted(simclr.SimCLR):
        def after_step(self, embeddings, indices):
            stops[0](10)

    stops = []
    module = SimpleNamespace(Options=simclr.Options, METHOD=Interrupted)
    with pytest.raises(DeepclustError, match="signal 10 in epoch 1"):
        train(module, name="old", session={"listen": stops.append})
    (state,) = tmp_path.glob("old/.state-*")
    assert len(log_of(train(name="new", batch_size=8, resume_from=str(state)))) == 2


def test_start_model_gives_the_initial_weights(train):
    start = train(name="start", epochs=1)
    seen = {}

    def remember(self, options, backbone, images):
        simclr.SimCLR.__init__(self, options, backbone, images)
        seen.update({name: value.clone() for name, value in backbone.state_dict().items()}, mean=images.mean)

    module = variant(__init__=remember)
    result = train(module, name="next", start_model=start.path / "model.json", start_from="start", epochs=1)
    spec = json.loads((start.path / "model.json").read_text())
    assert seen.pop("mean") == spec["mean"]
    loaded = Model.load(start.path / "model.json", CPU).network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in seen.items())
    assert result.weights != start.weights
    with pytest.raises(DeepclustError, match=r"backbone start is.*stem=cifar.*stem=stl"):
        train(name="bad", start_model=start.path / "model.json", start_from="start", stem="stl")


def test_monitored_features_use_no_gradient_and_leave_training_mode(train):
    def end_epoch(self, epoch):
        features = epoch.features(torch.arange(40))
        assert not features.requires_grad
        assert self.training
        return {"images": float(len(features))}

    assert log_of(train(variant(end_epoch=end_epoch), epochs=1))[0]["images"] == 40.0


def test_bf16_trains_too(train):
    assert len(log_of(train(precision="bf16", epochs=1))) == 1


def test_checks_happen_within_long_epochs(train, monkeypatch):
    """A loss that is no number is found before the end of the epoch."""
    monkeypatch.setattr(trainer, "CHECK_EVERY", 1)
    taken = []

    def loss(self, embeddings, indices):
        taken.append(len(indices))
        return {"loss": embeddings[0].sum() * torch.nan}

    with pytest.raises(DeepclustError, match="diverged"):
        train(variant(loss=loss), batch_size=4)
    assert taken == [4]
