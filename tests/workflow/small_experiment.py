"""One small experiment, and how to run it and to ask what would run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ["Snakefile", "config.yaml", "workflow", "envs", "experiments", "profiles", "weights"]

EXPERIMENT = """
datasets:
  digits: {loader: digits}
  shapes: {loader: folder, path: shapes, channels: 1}
backbones:
  pixels: {method: pixels}
  small: {method: pixels, image_size: 8}
  simclr: &training
    {method: simclr, dataset: digits, architecture: resnet10_w32, epochs: 1, batch_size: 256, learning_rate: 0.05}
  elsewhere: {<<: *training, dataset: shapes, image_size: 8, batch_size: 32, snapshot_every: 1}
  later: {<<: *training, start_from: simclr}
  fetched: {method: pretrained, model: vit_tiny_patch16_224, arguments: {img_size: 16, patch_size: 4, embed_dim: 16,
    depth: 2, num_heads: 2}, weights: weights.pth, mean: [0.4, 0.4, 0.4], std: [0.3, 0.3, 0.3],
    pooling: class}
heads:
  kmeans: {method: kmeans, n_init: 2}
  other: {method: kmeans, n_init: 1, spherical: true}
  scan: {method: scan, neighbors: 4, heads: 2, epochs: 20, batch_size: 32}
  both: {method: consensus, members: [kmeans, scan], neighbors: 4, epochs: 1, rounds: 1, round_epochs: 1}
runs:
  - {dataset: digits, backbones: [later, elsewhere, [pixels, simclr]], heads: [kmeans], k: 10}
  - {dataset: shapes, backbones: [small], heads: [kmeans, other, scan, both], k: 3}
  - {dataset: shapes, backbones: [fetched], heads: [other], k: [3, auto]}
seeds: 2
neighbors: {k: 5}
choose_k: {range: [2, 5], resamples: 3}
evaluation: {bootstrap: 50, layer_probe: {backbones: [simclr], dimension: 300}}
report: {map_points: 50}
"""


def environment():
    """The environment of this test process, without what Snakemake's jobs should not find by accident."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "SNAKEMAKE", "PYTHONPATH"))
    }


def copy_project(folder):
    """The project as a fresh clone has it, without what is ignored."""
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".snakemake"))
        else:
            shutil.copy2(source, folder / name)


def draw_shapes(folder):
    """96 grey images of different sizes in three class folders: bars lying, bars standing, rings."""
    random = np.random.default_rng(0)
    for number in range(96):
        size = int(random.integers(10, 16))
        pixels = random.integers(0, 60, (size, size), dtype=np.uint8)
        kind = ("lying", "ring", "standing")[number % 3]
        if kind == "lying":
            pixels[size // 2 - 1 : size // 2 + 2, 1:-1] = 230
        elif kind == "standing":
            pixels[1:-1, size // 2 - 1 : size // 2 + 2] = 230
        else:
            pixels[2:-2, 2:-2] = 230
            pixels[4:-4, 4:-4] = 20
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{number}.png")


def write_weights(path):
    """Random weights for the experiment's vision transformer, as a training script leaves them."""
    import torch

    from deepclust.models.networks import build_network

    torch.manual_seed(0)
    options = yaml.safe_load(EXPERIMENT)["backbones"]["fetched"]
    network = build_network({"name": "timm", "model": options["model"], "arguments": options["arguments"]})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save({"teacher": {f"module.backbone.{k}": v for k, v in network.state_dict().items()}, "epoch": 3}, path)


def snakemake(folder, *words, timeout=600):
    """Run Snakemake as a user would; returns the finished process with its text."""
    command = [sys.executable, "-m", "snakemake", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout, env=environment())


def deepclust(folder, *words):
    """Run the command `deepclust` of this clone in the folder of another one; returns the finished process."""
    command = [sys.executable, "-m", "deepclust", *words]
    library = {"PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment() | library)


def copy_experiment(folder):
    """A clone with the small experiment, before anything ran."""
    copy_project(folder)
    draw_shapes(folder / "shapes")
    write_weights(folder / "weights.pth")
    (folder / "small.yaml").write_text(EXPERIMENT)


class DryRuns:
    """Asks a server process what would run."""

    def __init__(self, folder):
        self.folder = folder
        server = [sys.executable, str(Path(__file__).with_name("dry_run_server.py"))]
        self.process = subprocess.Popen(
            server, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )

    def __call__(self, config=None, **request):
        """The jobs that would run, under the experiment or under another config."""
        answer = self.ask(config, **request)
        assert "jobs" in answer, answer
        return [job for job in answer["jobs"] if job["rule"] != "all"]

    def ask(self, config=None, **request):
        """The answer of the server."""
        path = "small.yaml"
        if config is not None:
            path = "changed.yaml"
            (self.folder / path).write_text(yaml.safe_dump(config, sort_keys=False))
        request = {"snakefile": "Snakefile", "configfiles": [path], **request}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def names(self, config=None, **request):
        return {name(job) for job in self(config, **request)}

    def close(self):
        self.process.kill()
        self.process.wait()


def name(job):
    """`rule` and its wildcards in short, e.g. `extract_features digits simclr test`."""
    order = ("dataset", "backbones", "backbone", "head", "k", "protocol", "split", "kind", "figure")
    return " ".join([job["rule"], *(job["wildcards"][key] for key in order if key in job["wildcards"])])
