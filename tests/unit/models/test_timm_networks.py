import pytest
import torch
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError
from deepclust.models.description import POOLINGS, SPEC_KEYS
from deepclust.models.model import Model, save_model
from deepclust.models.networks import build_network, set_image_size
from deepclust.models.pooling import pool, read_out
from deepclust.models.preprocessing import resize_and_crop

CPU = torch.device("cpu")
SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
VIT = {"name": "timm", "model": "vit_tiny_patch16_224", "arguments": {**SIZES, "reg_tokens": 2}}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def vit(**arguments):
    torch.manual_seed(0)
    network = build_network(VIT | {"arguments": VIT["arguments"] | arguments}).eval()
    torch.nn.init.normal_(network.pos_embed)  # far from the tiny values it starts with
    return network


@pytest.fixture
def saved(tmp_path):
    network = vit()
    facts = {"architecture": VIT, "image_size": 32, "interpolation": "bicubic", "mean": MEAN, "std": STD}
    save_model(
        tmp_path / "model.json", network, dict.fromkeys(SPEC_KEYS) | facts | {"crop_fraction": 1.0, "pooling": "class"}
    )
    return tmp_path / "model.json", network


def images(side=32, count=2):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_saved_vision_transformer_comes_back(saved):
    path, network = saved
    pictures = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    expected = network.forward_features((pictures / 255 - mean) / std)[:, 0]
    model = Model.load(path, CPU)
    torch.testing.assert_close(model.features(model.preprocess(pictures)), expected)


@torch.no_grad()
def test_poolings_of_tokens():
    """Class token first, then two registers, then 16 patches."""
    network = vit()
    tokens = network.forward_features(images())
    assert tokens.shape == (2, 1 + 2 + 16, 24)
    label, patches = tokens[:, 0], tokens[:, 3:]
    expected = {
        "class": label,
        "avg": patches.mean(1),
        "max": patches.max(1).values,
        "avgmax": (patches.mean(1) + patches.max(1).values) / 2,
        "class+avg": torch.cat([label, patches.mean(1)], 1),
        "head": label,
    }
    assert expected.keys() == set(POOLINGS)
    for pooling, vectors in expected.items():
        torch.testing.assert_close(read_out(network, images(), pooling, None), vectors)
    assert pool(tokens.bfloat16(), "class+avg", network).dtype == torch.float32


@torch.no_grad()
def test_poolings_of_maps():
    network = build_network({"name": "resnet10_w32", "stem": "cifar", "in_channels": 3}).eval()
    maps = torch.rand(2, 5, 3, 3)
    torch.testing.assert_close(pool(maps, "avg", network), maps.flatten(2).mean(2))
    assert torch.equal(pool(maps, "max", network), maps.flatten(2).max(2).values)
    torch.testing.assert_close(
        pool(maps, "avgmax", network), 0.5 * (pool(maps, "avg", network) + pool(maps, "max", network))
    )
    torch.testing.assert_close(read_out(network, images(), "head", None), read_out(network, images(), "avg", None))
    assert torch.equal(pool(maps[:, :, 0, 0], "max", network), maps[:, :, 0, 0])
    for pooling in ("class", "class+avg"):
        with pytest.raises(DeepclustError, match="no class token"):
            pool(maps, pooling, network)
    with pytest.raises(DeepclustError, match="avgmax"):
        pool(maps, "median", network)


@torch.no_grad()
def test_maps_with_channels_last_are_pooled_over_positions():
    arguments = {
        "img_size": 32,
        "patch_size": 4,
        "window_size": 4,
        "embed_dim": 8,
        "depths": (1, 1),
        "num_heads": (1, 2),
    }
    network = build_network({"name": "timm", "model": "swin_tiny_patch4_window7_224", "arguments": arguments}).eval()
    maps = network.forward_features(images())
    assert maps.shape == (2, 4, 4, 16)
    torch.testing.assert_close(read_out(network, images(), "avg", None), maps.mean((1, 2)))
    torch.testing.assert_close(read_out(network, images(), "head", None), network(images()))


def test_a_head_that_projects_is_kept_on_request():
    network = vit(num_classes=7)
    assert network.feature_dim == 7
    assert read_out(network, images(), "head", None).shape == (2, 7)
    assert read_out(network, images(), "class", None).shape == (2, 24)


@torch.no_grad()
def test_layers_are_the_normalised_outputs_of_blocks():
    network = vit()
    outputs = []
    hooks = [block.register_forward_hook(lambda *call: outputs.append(call[2])) for block in network.blocks]
    network(images())
    for hook in hooks:
        hook.remove()
    label = [network.norm(output)[:, 0] for output in outputs]
    torch.testing.assert_close(read_out(network, images(), "class", [-2, -1]), torch.cat(label[1:], 1))
    torch.testing.assert_close(read_out(network, images(), "class", [0]), label[0])
    torch.testing.assert_close(
        read_out(network, images(), "avg", [1]), network.norm(outputs[1])[:, network.num_prefix_tokens :].mean(1)
    )
    last = read_out(network, images(), "class+avg", None)
    torch.testing.assert_close(read_out(network, images(), "class+avg", [-1]), last)


@pytest.mark.parametrize(
    ("layers", "pooling", "message"),
    [([3], "class", "layers"), ([-1, 2], "class", "twice"), ([-1], "head", "last block only")],
)
def test_layers_that_cannot_be_read(layers, pooling, message):
    with pytest.raises(DeepclustError, match=message):
        read_out(vit(), images(), pooling, layers)


@torch.no_grad()
def test_stages_of_a_resnet_are_layers():
    network = build_network({"name": "resnet18", "stem": "cifar", "in_channels": 3}).eval()
    assert read_out(network, images(), "avg", [-2, -1]).shape == (2, 256 + 512)
    torch.testing.assert_close(read_out(network, images(), "avg", [4]), read_out(network, images(), "avg", None))


@pytest.mark.parametrize("side", [16, 48])
@torch.no_grad()
def test_position_embeddings_are_resampled_once(saved, side):
    """Bicubic with antialiasing over the grid of patches; those of other tokens stay."""
    path, network = saved
    model = Model.load(path, CPU, image_size=side)
    prefix, grid = network.pos_embed[:, :3], network.pos_embed[:, 3:].reshape(1, 4, 4, 24).permute(0, 3, 1, 2)
    resampled = F.interpolate(grid, (side // 8, side // 8), mode="bicubic", antialias=True)
    expected = torch.cat([prefix, resampled.flatten(2).transpose(1, 2)], 1)
    torch.testing.assert_close(model.network.pos_embed, expected)
    network.pos_embed = torch.nn.Parameter(expected)
    network.patch_embed.set_input_size(side)
    pictures = torch.randint(0, 256, (2, 3, 30, 40), dtype=torch.uint8)
    prepared = model.preprocess(pictures)
    assert prepared.shape == (2, 3, side, side)
    torch.testing.assert_close(model.features(prepared), network.forward_features(prepared)[:, 0])
    torch.testing.assert_close(Model.load(path, CPU).network.pos_embed, vit().pos_embed)


def test_sizes_that_patches_do_not_fill_are_refused(saved):
    with pytest.raises(DeepclustError, match="32 or 40"):
        Model.load(saved[0], CPU, image_size=39)


def test_what_a_reader_asks_for_replaces_the_backbones_own(saved):
    model = Model.load(saved[0], CPU, pooling="class+avg", layers=[-2, -1], crop_fraction=0.8)
    pictures = torch.randint(0, 256, (2, 3, 50, 70), dtype=torch.uint8)
    assert model.features(model.preprocess(pictures)).shape == (2, 4 * 24)
    cropped = resize_and_crop(pictures.float(), 32, "bicubic", 0.8)
    larger = resize_and_crop(pictures.float(), 40, "bicubic")
    assert torch.equal(cropped, larger[..., 4:36, 4:36])


def test_grey_images_and_other_channels(tmp_path):
    architecture = VIT | {"arguments": VIT["arguments"] | {"in_chans": 1}}
    facts = {"architecture": architecture, "image_size": 32, "interpolation": "bicubic", "crop_fraction": 1.0}
    save_model(tmp_path / "model.json", vit(in_chans=1), dict.fromkeys(SPEC_KEYS) | facts | {"pooling": "class"})
    model = Model.load(tmp_path / "model.json", CPU)
    assert model.preprocess(torch.zeros(1, 3, 40, 40, dtype=torch.uint8)).shape == (1, 1, 32, 32)


def test_arguments_that_a_model_does_not_take_are_refused():
    with pytest.raises(DeepclustError, match="cannot make vit_tiny_patch16_224.*heads"):
        build_network({"name": "timm", "model": "vit_tiny_patch16_224", "arguments": {"heads": 3}})


def test_networks_of_one_size_are_not_resized():
    attention_pooling = {"name": "timm", "model": "resnet50_clip", "arguments": {}}
    with torch.device("meta"):
        network = build_network(attention_pooling)
    set_image_size(network, 224)
    with pytest.raises(DeepclustError, match="224 pixels only"):
        set_image_size(network, 112)


@pytest.mark.parametrize(
    ("model", "arguments", "sides"),
    [
        ("test_maxvit", {"img_size": 64}, [64, 128]),
        ("test_coatnet", {"img_size": 64}, [64, 96]),
        ("efficientvit_m0", {}, [224, 96]),
    ],
)
@torch.no_grad()
def test_networks_with_stems_of_other_kinds_are_resized(model, arguments, sides):
    network = build_network({"name": "timm", "model": model, "arguments": arguments}).eval()
    for side in sides:
        set_image_size(network, side)
        assert pool(network.forward_features(images(side)), "avg", network).shape == (2, network.num_features)


def test_sizes_that_windows_do_not_fill_are_refused():
    network = build_network({"name": "timm", "model": "test_maxvit", "arguments": {"img_size": 64}})
    with pytest.raises(DeepclustError, match="64 or 96"):
        set_image_size(network, 80)


def test_a_networks_own_size_need_not_be_a_multiple_of_its_patches():
    network = vit(img_size=36)
    set_image_size(network, 36)
    assert network.patch_embed.img_size == (36, 36)


@torch.no_grad()
def test_several_maps_are_joined_by_the_networks_own_head_only():
    arguments = {"embed_dim": (8, 16), "num_heads": (1, 1), "depth": ((1, 1, 0),)}
    network = build_network({"name": "timm", "model": "crossvit_tiny_240", "arguments": arguments}).eval()
    with pytest.raises(DeepclustError, match="crossvit_tiny_240 gives several maps"):
        read_out(network, images(240), "avg", None)
    torch.testing.assert_close(read_out(network, images(240), "head", None), network(images(240)))


@torch.no_grad()
def test_class_tokens_that_no_attribute_counts_are_no_patches():
    models = ("volo_d1_224", "pit_ti_224")
    volo, pit = (build_network({"name": "timm", "model": model, "arguments": {}}).eval() for model in models)
    tokens = volo.forward_features(images(224, count=1))
    torch.testing.assert_close(pool(tokens, "avg", volo), tokens[:, 1:].mean(1))
    assert read_out(pit, images(224), "class", None).shape == (2, pit.num_features)
    with pytest.raises(DeepclustError, match="pit_ti_224 gives no tokens of patches"):
        read_out(pit, images(224), "avg", None)


def test_unknown_models_are_refused():
    with pytest.raises(DeepclustError, match="vit_tiny_patch99"):
        build_network({"name": "timm", "model": "vit_tiny_patch99", "arguments": {}})
