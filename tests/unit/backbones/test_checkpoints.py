import argparse
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deepclust.backbones.checkpoints import fit, read_tensors
from deepclust.core.errors import DeepclustError
from deepclust.models.networks import build_network
from tiny_vit import TINY

CLASSIFYING = {"num_classes": 5}, {}


def below(prefix, network, shift=0.0):
    return {f"{prefix}{name}": tensor + shift for name, tensor in network.state_dict().items()}


def loaded(path, network, prefix=None, convert=None):
    return fit(network, read_tensors(path), prefix, convert)


def same(found, network):
    expected = network.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda net: below("", net),
        lambda net: {"state_dict": below("", net), "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda net: {"state_dict": below("module.", net) | {"module.head.weight": torch.zeros(3)}},
        lambda net: {"model": below("backbone.", net), "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}},
        lambda net: {"teacher": below("module.backbone.", net), "student": below("module.backbone.", net, 1)},
        lambda net: {"state_dict": below("module.encoder_q.", net) | below("module.encoder_k.", net, 1)},
        lambda net: {
            "state_dict": below("module.momentum_encoder.", net, 1) | below("module.base_encoder.", net),
            "optimizer": {},
        },
        lambda net: {"encoder": below("module.", net, 1), "target_encoder": below("module.", net)},
        lambda net: {"model": below("", net, 1), "model_ema": below("", net)},
        lambda net: below("_orig_mod.module.", net),
    ],
    ids=[
        "plain",
        "state_dict",
        "module",
        "backbone",
        "teacher",
        "encoder_q",
        "base_encoder",
        "target",
        "ema",
        "compiled",
    ],
)
def test_the_backbone_is_found_wherever_it_stands(wrapped, vit, tmp_path):
    torch.save(wrapped(vit), tmp_path / "weights.pth")
    found = loaded(tmp_path / "weights.pth", vit)
    assert not found.problems
    assert same(found.tensors, vit)


@pytest.mark.parametrize("counted", ["throughout", "in each chunk"])
@pytest.mark.parametrize("before", ["", "teacher.backbone."])
def test_blocks_in_chunks(counted, before):
    """As DINOv2 is trained: four chunks of three blocks, with the names of all blocks or of those of the chunk."""
    with torch.device("meta"):  # names and shapes are enough
        network = build_network({"name": "timm", "model": "vit_tiny_patch16_224", "arguments": {}})

    def chunked(name):
        words = name.split(".")
        if words[0] == "blocks":
            number = int(words[1])
            words[1] = f"{number // 3}.{number if counted == 'throughout' else number % 3}"
        return before + ".".join(words)

    expected = network.state_dict()
    tensors = {chunked(name): tensor for name, tensor in expected.items()}
    if before:
        tensors |= {name.replace("teacher", "student"): tensor for name, tensor in tensors.items()}
    found = fit(network, tensors, None, None)
    assert not found.problems and found.prefix == before
    assert {name for name in expected if found.tensors[name] is not tensors[chunked(name)]} == set()


@pytest.mark.parametrize("left_out", [0, 1, 2])
@pytest.mark.parametrize("before", ["", "encoder.", "module.encoder_q."])
def test_children_that_nn_sequential_numbers(before, left_out, resnet):
    """As `nn.Sequential(*list(resnet.children())[:-1])` names them, with what else a method saved beside them."""
    children = dict(resnet.named_children())
    layers = torch.nn.Sequential(*list(children.values())[: len(children) - left_out])
    beside = {"projector.0.weight": torch.zeros(2), "fc.0.bias": torch.zeros(2)}
    tensors = below(before, layers) | beside
    found = fit(resnet, tensors, None, None)
    assert not found.problems and found.prefix == before
    assert same(found.tensors, resnet)


def test_numbered_children_of_other_shapes(resnet):
    """The error lists the names that are in the file."""
    layers = torch.nn.Sequential(*resnet.children())
    found = fit(resnet, {**below("", layers), "0.0.weight": torch.zeros(3)}, None, None)
    assert "0.0.weight" in found.problems["unexpected"] and "conv1.0.weight" in found.problems["missing"]


def test_safetensors_need_no_suffix(vit, tmp_path):
    save_file(below("", vit), tmp_path / "weights")
    assert same(loaded(tmp_path / "weights", vit).tensors, vit)


def test_a_prefix_chooses(vit, tmp_path):
    torch.save({"teacher": below("", vit), "student": below("", vit, 1)}, tmp_path / "weights.pth")
    for prefix in ("student", "student."):
        found = loaded(tmp_path / "weights.pth", vit, prefix)
        assert found.prefix == "student."
        assert torch.equal(found.tensors["norm.weight"], vit.norm.weight + 1)


def test_equals_must_be_chosen_from(vit, tmp_path):
    torch.save({"one": below("", vit), "other": below("", vit, 1)}, tmp_path / "weights.pth")
    with pytest.raises(DeepclustError, match=r"one\. and other\..*prefix"):
        loaded(tmp_path / "weights.pth", vit)


def test_heads_are_dropped_by_name(resnet, tmp_path):
    extra = {
        "fc.0.weight": torch.zeros(2),
        "projection_head.3.bias": torch.zeros(2),
        "prototypes0.weight": torch.ones(1),
        "projection_mlp.0.weight": torch.zeros(2),
        "contrastive_head.bias": torch.zeros(2),
        "online_classifier.weight": torch.zeros(2),
        "queue": torch.zeros(2, 4),
        "queue_ptr": torch.zeros(1, dtype=torch.long),
    }
    torch.save(below("", resnet) | extra, tmp_path / "weights.pth")
    found = loaded(tmp_path / "weights.pth", resnet)
    assert same(found.tensors, resnet)
    assert found.dropped == sorted(extra)


@pytest.mark.parametrize("model", ["inception_v4", "inception_resnet_v2", "legacy_seresnet18", "volo_d1_224"])
def test_a_networks_own_classifiers_are_dropped(model):
    with torch.device("meta"):  # names and shapes are enough
        whole, backbone = (build_network({"name": "timm", "model": model, "arguments": a}) for a in CLASSIFYING)
    found = fit(backbone, whole.state_dict(), None, None)
    assert not found.problems
    assert set(found.dropped) == whole.state_dict().keys() - backbone.state_dict().keys() != set()


def test_what_is_missing_or_left_over_is_listed(vit, tmp_path):
    tensors = below("backbone.", vit)
    del tensors["backbone.blocks.1.mlp.fc1.bias"]
    tensors["backbone.blocks.0.gamma"] = torch.zeros(1)
    tensors["backbone.norm.weight"] = torch.zeros(7)
    torch.save(tensors, tmp_path / "weights.pth")
    found = loaded(tmp_path / "weights.pth", vit)
    assert found.problems == {
        "missing": ["blocks.1.mlp.fc1.bias"],
        "unexpected": ["blocks.0.gamma"],
        "of another shape": ["norm.weight (7,) for (24,)"],
    }
    assert not found.tensors


def test_weights_of_another_network_miss_everything(vit, resnet, tmp_path):
    torch.save(below("", resnet), tmp_path / "weights.pth")
    assert len(loaded(tmp_path / "weights.pth", vit).problems["missing"]) == len(vit.state_dict())


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.module.encoder_q.", "backbone.0."])
def test_counters_of_old_files_are_not_missed(prefix, resnet, tmp_path):
    tensors = {name: t for name, t in below(prefix, resnet).items() if not name.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "weights.pth")
    found = loaded(tmp_path / "weights.pth", resnet)
    assert not found.problems and found.prefix == prefix


def test_half_precision_becomes_the_networks(vit, tmp_path):
    save_file({name: tensor.bfloat16() for name, tensor in below("", vit).items()}, tmp_path / "weights.safetensors")
    found = loaded(tmp_path / "weights.safetensors", vit)
    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float32}


def test_other_codes_are_converted_by_timm(vit, tmp_path):
    """Position embeddings of another image size are resampled, as timm's own loading does."""
    from timm.models.vision_transformer import checkpoint_filter_fn

    tensors = below("", vit)
    tensors["pos_embed"] = torch.rand(1, 1 + 64, 24)
    torch.save(tensors, tmp_path / "weights.pth")
    assert loaded(tmp_path / "weights.pth", vit).problems
    found = loaded(tmp_path / "weights.pth", vit, convert=checkpoint_filter_fn)
    assert not found.problems
    assert found.tensors["pos_embed"].shape == (1, 17, 24)
    assert torch.equal(found.tensors["pos_embed"][:, 0], tensors["pos_embed"][:, 0])


@pytest.mark.parametrize("image_size", [32, 64], ids=["other grid", "same grid"])
@pytest.mark.parametrize("name", ["patch_embed.proj.weight", "visual.trunk.patch_embed.proj.weight"])
def test_patches_of_another_size_are_not_resampled(name, image_size, vit):
    from timm.models.vision_transformer import checkpoint_filter_fn

    tensors = below(name.removesuffix("patch_embed.proj.weight"), vit)
    arguments = {**TINY, "patch_size": 16, "img_size": image_size}
    other = build_network({"name": "timm", "model": "vit_tiny_patch16_224", "arguments": arguments})
    found = fit(other, tensors, "", checkpoint_filter_fn)
    assert not found.tensors
    assert list(found.problems) == ["of another patch size"]
    assert "8x8 for 16x16" in found.problems["of another patch size"][0]


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_])
def test_numbers_of_numpy_beside_the_tensors(vit, tmp_path, monkeypatch, module, kind):
    """Training scripts keep the best accuracy as it was computed; numpy 1 and 2 call the same function differently."""
    monkeypatch.setattr(kind(1).__reduce__()[0], "__module__", module)
    torch.save({"state_dict": below("", vit), "best_acc1": kind(1)}, tmp_path / "weights.pth")
    assert module.encode() in (tmp_path / "weights.pth").read_bytes()
    assert same(loaded(tmp_path / "weights.pth", vit).tensors, vit)


def test_arrays_of_numpy_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(1), "history": np.zeros(2)}, tmp_path / "weights.pth")
    with pytest.raises(DeepclustError, match=r"more than tensors \(numpy"):
        read_tensors(tmp_path / "weights.pth")


class Harmful:
    def __reduce__(self):
        return print, ("this code must never run",)


def test_code_in_a_file_never_runs(tmp_path, capfd):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "callback": Harmful()}, tmp_path / "weights.pth")
    with pytest.raises(DeepclustError, match="could run code"):
        read_tensors(tmp_path / "weights.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(DeepclustError):
        read_tensors(tmp_path / "bare.pth")
    assert "must never run" not in capfd.readouterr().out


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("damage", ["cut", "empty", "page"])
def test_damaged_files(vit, tmp_path, kind, damage):
    path = tmp_path / f"weights.{kind}"
    torch.save(below("", vit), path) if kind == "pth" else save_file(below("", vit), path)
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "page": b"<html>not found</html>"}[damage])
    with pytest.raises(DeepclustError, match="damaged|neither") as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)


def test_files_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "weights.pth")
    with pytest.raises(DeepclustError, match="no tensors"):
        read_tensors(tmp_path / "weights.pth")
