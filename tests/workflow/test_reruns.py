"""Exactly what a change invalidates runs again: for every key of the config and every module of the library."""

import ast
import contextlib
import copy
import io
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import grimp
import pytest
import yaml

from deepclust.core.figures import figures
from deepclust.core.fingerprint import HARMLESS
from small_experiment import EXPERIMENT, ROOT, deepclust, environment, name, snakemake

LIBRARY = ROOT / "workflow" / "scripts"


@pytest.fixture(scope="module")
def graph(dry_runs):
    """All jobs of the experiment by name, and for each the jobs that read what it writes."""
    jobs = {name(job): job for job in dry_runs(forceall=True)}
    maker = {path: job_name for job_name, job in jobs.items() for path in job["output"]}
    readers = {job_name: set() for job_name in jobs}
    for job_name, job in jobs.items():
        for path in job["input"]:
            if path in maker and not path.endswith("clusters.provenance.json"):
                readers[maker[path]].add(job_name)
    return readers


def with_all_after(graph, roots):
    """The jobs named (by a prefix) in `roots` and every job downstream of them."""
    waiting = [job for job in graph if any(job == root or job.startswith(f"{root} ") for root in roots)]
    assert len(waiting) >= len(roots), (roots, sorted(graph))
    found = set()
    while waiting:
        job = waiting.pop()
        if job not in found:
            found.add(job)
            waiting.extend(graph[job])
    return found


def test_nothing_runs_again(dry_runs):
    assert dry_runs.names() == set()


@contextlib.contextmanager
def away(paths):
    """Results that are not there for a while, as if a failed job had lost them."""
    moved = [path for path in paths if path.exists()]
    try:
        for path in moved:
            path.rename(path.with_name(f"{path.name}.hidden"))
        yield
    finally:
        for path in moved:
            path.with_name(f"{path.name}.hidden").rename(path)


def test_what_is_lost_is_made_again(dry_runs, graph, project):
    """As a failed job loses it: what was made from it is there. At once for jobs that do not depend on each other."""
    jobs = {name(job): job for job in dry_runs(forceall=True)}
    lost = {job: len(with_all_after(graph, [job])) for job in graph if not job.startswith("download")}
    for count in sorted(set(lost.values())):
        hidden = [job for job in lost if lost[job] == count]
        with away(project / path for job in hidden for path in jobs[job]["output"]):
            assert set(hidden) <= dry_runs.names(), count
    assert dry_runs.names() == set()


def test_data_that_only_other_scores_need(dry_runs, experiment, project):
    """Snapshots and stages are scored on held-out images, whatever the runs are scored on."""
    config = copy.deepcopy(experiment)
    for run in config["runs"]:
        run |= {"protocol": "train"} if run["dataset"] == "digits" else {}
    assert "prepare digits test" not in dry_runs.names(config)
    with away(project / "results" / kind / "digits" / "test" for kind in ("data", "labels")):
        assert "prepare digits test" in dry_runs.names(config)
    assert dry_runs.names() == set()


# --- config ----------------------------------------------------------------------------------------------------------

# What the head `other` computes.
OTHER = ["cluster shapes small other", "cluster shapes fetched other"]
PRETRAINING = {
    "splits": ["train", "test"],
    "image_size": 10,
    "augmentation.crop_scale": [0.5, 1.0],
    "augmentation.crop_ratio": [0.9, 1.1],
    "augmentation.flip_probability": 0.1,
    "augmentation.jitter_probability": 0.1,
    "augmentation.brightness": 0.1,
    "augmentation.contrast": 0.1,
    "augmentation.saturation": 0.1,
    "augmentation.hue": 0.2,
    "augmentation.grayscale_probability": 0.1,
    "augmentation.blur_probability": 0.1,
    "augmentation.blur_sigma": [0.2, 1.0],
    "augmentation.solarize_probability": 0.1,
    "epochs": 2,
    "batch_size": 128,
    "optimizer": "adamw",
    "learning_rate": 0.01,
    "momentum": 0.8,
    "weight_decay": 0.01,
    "trust": 0.01,
    "scale_vectors": True,
    "warmup_epochs": 1,
    "seed": 1,
    "precision": "fp32",
    "compile": False,
    "sync_batch_norm": False,
    "temperature": 0.2,
    "projection_dim": 64,
}
FEATURES = {
    "image_size": 12,
    "crop_fraction": 0.9,
    "pooling": "max",
    "layers": [-2, -1],
    "test_time_augmentation": "flip",
    "precision": "fp32",
    "dtype": "float32",
}
FETCHED = {
    "arguments": {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 4},
    "sha256": "0" * 64,
    "prefix": "teacher.module.backbone",
    "image_size": 24,
    "crop_fraction": 0.8,
    "interpolation": "bilinear",
    "mean": [0.5, 0.4, 0.4],
    "std": [0.2, 0.3, 0.3],
    "pooling": "avg",
    "layers": [-2],
    "data": "bars and rings",
    "supervision": "self-supervised",
}
SCAN = {
    "normalize": "l2",
    "components": 5,
    "heads": 3,
    "neighbors": 2,
    "entropy_weight": 2,
    "epochs": 3,
    "batch_size": 16,
    "optimizer": "adam",
    "learning_rate": 0.1,
    "self_labelling.epochs": 1,
    "self_labelling.threshold": 0.5,
    "self_labelling.dropout": 0.5,
    "self_labelling.learning_rate": 0.1,
}
CONSENSUS = {
    "normalize": "l2",
    "components": 5,
    "members": ["kmeans"],
    "starts": 2,
    "heads": 3,
    "neighbors": 2,
    "entropy_weight": 2,
    "epochs": 3,
    "rounds": 2,
    "round_epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.1,
}
# How pretraining is started changes no result.
LAUNCHER = {
    "method": "submitit",
    "cluster": "slurm",
    "nodes": 2,
    "gpus_per_node": 4,
    "processes_per_node": 2,
    "cpus_per_process": 4,
    "memory_gb": 100,
    "minutes": 60,
    "time_slices": 3,
    "account": "me",
    "partition": "gpu",
    "constraint": "a100",
    "sbatch": {"qos": "high"},
}
# Whatever changes in an experiment, the page shows it.
SHOWS_THE_EXPERIMENT = {"write_experiment", "report_page"}

RUNS_TOGETHER = {"list_runs", "leaderboard", "plot_experiment leaderboard"} | SHOWS_THE_EXPERIMENT


# key of the config -> other value, jobs that it reaches directly
CHANGES = {
    "datasets.shapes.class_folders": (False, ["prepare shapes train"]),
    "datasets.shapes.channels": (3, ["prepare shapes train"]),
    "datasets.shapes.on_error": ("skip", ["prepare shapes train"]),
    "datasets.shapes.skip_limit": (0.9, ["prepare shapes train"]),
    "datasets.shapes.on_overlap": ("keep", []),  # there is no test split
    "backbones.small.image_size": (10, ["pixels small"]),
    **{f"backbones.simclr.{key}": (value, ["pretrain simclr"]) for key, value in PRETRAINING.items()},
    **{f"backbones.fetched.{key}": (value, ["fetch_weights fetched"]) for key, value in FETCHED.items()},
    **{
        f"backbones.simclr.features.{key}": (
            value,
            ["extract_features digits simclr train", "extract_features digits simclr test"],
        )
        for key, value in FEATURES.items()
    },
    "heads.kmeans.n_init": (
        3,
        [
            "cluster digits later",
            "cluster digits elsewhere",
            "cluster digits pixels+simclr",
            "cluster shapes small kmeans",
        ],
    ),
    "heads.other.n_init": (3, OTHER),
    "heads.other.spherical": (False, OTHER),
    "heads.other.normalize": ("standardize", OTHER),
    "heads.other.max_iter": (7, OTHER),
    "heads.other.components": (5, OTHER),
    "heads.other.sample": (30, OTHER),
    **{f"heads.scan.{key}": (value, ["cluster shapes small scan"]) for key, value in SCAN.items()},
    **{f"heads.both.{key}": (value, ["cluster shapes small both"]) for key, value in CONSENSUS.items()},
    "runs.1.seeds": ([0, 1, 2], ["cluster shapes small"]),
    "seeds": (3, ["cluster"]),
    "neighbors.k": (4, ["find_neighbors"]),
    "neighbors.recall": (0.9, ["find_neighbors"]),
    **{
        f"choose_k.{key}": (value, ["choose_k shapes fetched"])
        for key, value in {
            "range": [2, 6],
            "candidates": 3,
            "samples": 50,
            "resamples": 4,
            "neighbors": 5,
            "normalize": "none",
            "components": 5,
        }.items()
    },
    "evaluation.bootstrap": (60, ["evaluate"]),
    "evaluation.confidence": (0.9, ["evaluate"]),
    "evaluation.probe.knn": (3, ["probe", "score_snapshots"]),
    "evaluation.probe.l2": (0.01, ["probe", "score_snapshots"]),
    "evaluation.probe.samples": (200, ["probe", "score_snapshots"]),
    "evaluation.snapshots.linear": (True, ["score_snapshots"]),
    "evaluation.layer_probe.dimension": (200, ["probe_layers"]),
    "evaluation.layer_probe.l2": (0.01, ["probe_layers"]),
    "evaluation.layer_probe.samples": (200, ["probe_layers"]),
    "report.map_points": (40, ["project_map"]),
    "report.map_perplexity": (5.0, ["project_map"]),
    "report.gallery_images": (5, ["plot_run"]),
    "report.gallery_clusters": (2, ["plot_run"]),
    "report.page_runs": (1, []),
    **{f"launcher.{key}": (value, []) for key, value in LAUNCHER.items()},
}
# Keys that name things: what they change is another experiment, tested on its own below.
NAMING = {
    "backbones.fetched.preset",
    "backbones.fetched.model",
    "backbones.fetched.weights",
    "backbones.simclr.dataset",
    "backbones.simclr.start_from",
    "backbones.simclr.architecture",
    "backbones.simclr.stem",
    "backbones.simclr.sobel",
    "backbones.simclr.resume_from",
    "backbones.simclr.snapshot_every",
    "datasets.shapes.path",
    "evaluation.layer_probe.backbones",
    "datasets.shapes.test_path",
    "runs.0.dataset",
    "runs.0.backbones",
    "runs.0.heads",
    "runs.0.k",
    "runs.0.protocol",
    "runs.0.seeds",
}


SECTIONS = ("neighbors", "choose_k", "evaluation", "report", "launcher")


def changed(experiment, path, value):
    config = copy.deepcopy(experiment)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node = config
    for part in parents:
        node = node[part] if isinstance(node, list) else node.setdefault(part, {})
    node[last] = value
    return config


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_key_reruns_what_depends_on_it(dry_runs, graph, experiment, key):
    value, roots = CHANGES[key]
    expected = with_all_after(graph, roots)
    assert dry_runs.names(changed(experiment, key, value)) == expected | SHOWS_THE_EXPERIMENT


def test_every_key_of_the_config_is_covered():
    """A new option needs a line above."""
    import json

    schema = json.loads((ROOT / "workflow" / "schemas" / "config.schema.json").read_text())
    definitions = schema["$defs"]

    def keys(node, prefix):
        while "$ref" in node:
            node = definitions[node["$ref"].removeprefix("#/$defs/")]
        if "properties" not in node:
            yield prefix
            return
        for key, child in node["properties"].items():
            if "const" not in child:
                yield from keys(child, f"{prefix}.{key}")

    wanted = {
        *keys(definitions["loader.folder"], "datasets.shapes"),
        *keys(definitions["backbone.pixels"], "backbones.small"),
        *keys(definitions["backbone.simclr"], "backbones.simclr"),
        *keys(definitions["backbone.pretrained"], "backbones.fetched"),
        *keys(definitions["head.kmeans"], "heads.other"),
        *keys(definitions["head.scan"], "heads.scan"),
        *keys(definitions["head.consensus"], "heads.both"),
        *keys(definitions["run"], "runs.0"),
        *(key for section in SECTIONS for key in keys(definitions[section], section)),
        "seeds",
    }
    # Extraction options are the same for every backbone.
    wanted -= {key for key in wanted if key.startswith(("backbones.small.features", "backbones.fetched.features"))}
    assert wanted - set(CHANGES) - NAMING == set()


def test_swapped_values_are_seen(dry_runs, graph, experiment):
    config = changed(experiment, "backbones.simclr.augmentation.brightness", 0.3)
    swapped = changed(config, "backbones.simclr.augmentation.contrast", 0.4)
    config["backbones"]["simclr"]["augmentation"]["contrast"] = 0.3
    config["backbones"]["simclr"]["augmentation"]["brightness"] = 0.4
    assert dry_runs.names(swapped) == dry_runs.names(config) != set()
    # Two options that exchange their values leave the set of values as it was.
    both = changed(experiment, "backbones.simclr.augmentation.saturation", 0.1)
    both["backbones"]["simclr"]["augmentation"]["hue"] = 0.4
    assert "pretrain simclr" in dry_runs.names(both)


def test_the_order_of_keys_and_written_out_defaults_do_not_count(dry_runs, experiment):
    config = copy.deepcopy(experiment)
    config = {key: config[key] for key in reversed(config)}
    for section in ("backbones", "heads"):
        for entry, options in config[section].items():
            config[section][entry] = {key: options[key] for key in reversed(options)}
    config["backbones"]["simclr"] |= {"temperature": 0.1, "precision": "auto"}
    config["heads"]["other"]["normalize"] = "none"
    assert dry_runs.names(config) <= SHOWS_THE_EXPERIMENT


def test_removing_a_run_reruns_only_what_puts_runs_together(dry_runs, experiment):
    config = copy.deepcopy(experiment)
    del config["runs"][1]
    assert dry_runs.names(config) == RUNS_TOGETHER


def test_another_run_computes_only_itself(dry_runs, experiment):
    config = copy.deepcopy(experiment)
    config["runs"].append({"dataset": "digits", "backbones": ["later"], "heads": ["other"], "k": 10})
    run = "digits later other 10 held-out"
    expected = {f"{rule} {run}" for rule in ("cluster", "evaluate", "plot_run")}
    assert dry_runs.names(config) == expected | RUNS_TOGETHER


def test_snapshots_of_another_backbone_train_it_again_and_are_scored(dry_runs, graph, experiment):
    config = changed(experiment, "backbones.later.snapshot_every", 1)
    expected = with_all_after(graph, ["pretrain later"]) | {"score_snapshots digits later", "plot_experiment snapshots"}
    assert dry_runs.names(config) == expected | {"list_runs"} | SHOWS_THE_EXPERIMENT  # one job record more


def test_a_new_image_is_noticed(dry_runs, graph, project):
    extra = project / "shapes" / "ring" / "new.png"
    extra.write_bytes(next((project / "shapes" / "ring").glob("*.png")).read_bytes())
    try:
        assert dry_runs.names() == with_all_after(graph, ["prepare shapes train"])
    finally:
        extra.unlink()
    assert dry_runs.names() == set()


# --- code ------------------------------------------------------------------------------------------------------------

MODULES = sorted(
    ".".join(path.relative_to(LIBRARY).with_suffix("").parts)
    for path in (LIBRARY / "deepclust").rglob("*.py")
    if path.name != "__init__.py"
)
METHOD_JOBS = {
    "deepclust.data.loaders.digits": ["prepare digits"],
    "deepclust.data.loaders.folder": ["prepare shapes"],
    "deepclust.pretraining.simclr": ["pretrain"],
    "deepclust.heads.kmeans": [
        "cluster digits",
        "cluster shapes small kmeans",
        *OTHER,
    ],
    "deepclust.heads.scan": ["cluster shapes small scan"],
    "deepclust.heads.consensus": ["cluster shapes small both"],
}


@pytest.fixture(scope="module")
def imports():
    """Which modules each module imports, found by a library of its own."""
    sys.path.insert(0, str(LIBRARY))
    found = grimp.build_graph("deepclust", cache_dir=None)
    return {module: set(found.find_modules_directly_imported_by(module)) for module in found.modules}


def reaches(imports, start):
    seen, waiting = set(), list(start)
    while waiting:
        module = waiting.pop()
        if module in seen or module in HARMLESS:
            continue
        seen.add(module)
        waiting.extend(imports[module])
    return seen


def imported_by_script(script, imports):
    found = set()
    for node in ast.walk(ast.parse((LIBRARY / f"{script}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & imports.keys() - {"deepclust"}


def jobs_of_methods(graph):
    """The jobs that load a module by name, by the module."""
    jobs = dict(METHOD_JOBS)
    for figure in figures().values():
        drawn = "plot_run " if figure.facts.scope == "run" else f" {figure.name} "
        jobs[figure.module] = [job for job in graph if drawn in f"{job} "]
    return jobs


@pytest.fixture(scope="module")
def expected_roots(graph, imports):
    """For each module of the library the jobs that can reach it."""
    roots = {module: set() for module in MODULES}
    for script in {job.split()[0] for job in graph} - {"list_runs", "write_experiment"}:  # these have no script
        for module in reaches(imports, imported_by_script(script, imports)) & roots.keys():
            roots[module] |= {job for job in graph if job.split()[0] == script}
    for method, prefixes in jobs_of_methods(graph).items():
        jobs = {job for job in graph for prefix in prefixes if job == prefix or job.startswith(f"{prefix} ")}
        for module in reaches(imports, [method]) & roots.keys():
            roots[module] |= jobs
    return roots


def test_a_job_depends_on_every_module_that_it_reaches_and_on_no_other(dry_runs, expected_roots):
    found = {module: set() for module in MODULES}
    for job in dry_runs(forceall=True, code=True):
        assert not job["code"] or any(entry.startswith(f"{job['rule']}.py:") for entry in job["code"])
        for entry in job["code"]:
            if (module := entry.partition(":")[0]) in found:
                found[module].add(name(job))
    assert found == expected_roots


# Of every kind one: a command, the frame, methods, what they share, a figure, and what can change no result.
MUTATED = [
    "cluster",
    "deepclust.core.command",
    "deepclust.core.progress",
    "deepclust.core.limits",
    "deepclust.models.pooling",
    "deepclust.data.loaders.folder",
    "deepclust.data.loaders.list",
    "deepclust.features.neighbors",
    "deepclust.pretraining.simclr",
    "deepclust.pretraining.views.color",
    "deepclust.heads.scan",
    "deepclust.heads.kit.stacked_mlp",
    "deepclust.evaluation.metrics",
    "deepclust.reporting.figures.training",
    "deepclust.planning.plan",
]


@pytest.mark.parametrize("module", MUTATED)
def test_a_changed_module_reruns_what_reaches_it(dry_runs, graph, project, expected_roots, module):
    roots = expected_roots.get(module, {module})
    path = (project / "workflow" / "scripts" / module.replace(".", "/")).with_suffix(".py")
    source = path.read_bytes()
    try:
        path.write_bytes(source + b"\nMUTATED = True\n")
        assert dry_runs.names() == (with_all_after(graph, roots) if roots else set())
        path.write_bytes(source + b"\n# only a comment\n")
        assert dry_runs.names() == set()
    finally:
        path.write_bytes(source)


def test_code_of_downloads(project, dry_runs):
    """A dataset that is downloaded, here from a file beside the project."""
    archive = project / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as file:
        for batch in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{batch}.bin")
            entry.size = 10_000 * 3073
            file.addfile(entry, io.BytesIO(bytes(entry.size)))
    config = yaml.safe_load(EXPERIMENT)
    config["datasets"]["cifar10"] = {"loader": "cifar10", "source": str(archive), "sha256": "any"}
    (project / "download.yaml").write_text(yaml.safe_dump(config))
    target = "results/data/cifar10/test/images.json"
    done = snakemake(project, "--cores", "2", "--configfile", "download.yaml", "--", target)
    assert done.returncode == 0, done.stderr[-3000:]

    def waiting(config=config):
        return {job.split()[0] for job in dry_runs.names(config, targets=[target])}

    assert waiting() == set()
    checked = {**config, "datasets": {**config["datasets"], "cifar10": {**config["datasets"]["cifar10"]}}}
    checked["datasets"]["cifar10"]["sha256"] = "0" * 64
    assert waiting(checked) == {"download", "prepare"}
    expected = {module: {"download", "prepare"} for module in ("downloading", "transfer", "checksums")}
    expected |= {module: {"prepare"} for module in ("formats/cifar", "formats/archives", "names", "loaders/cifar10")}
    expected |= {module: set() for module in ("loaders/cifar100", "formats/idx", "wnids", "formats/zips")}
    for module, jobs in expected.items():
        path = project / "workflow" / "scripts" / "deepclust" / "data" / f"{module}.py"
        source = path.read_bytes()
        try:
            path.write_bytes(source + b"\nMUTATED = True\n")
            assert waiting() == jobs, module
        finally:
            path.write_bytes(source)
    with archive.open("ab") as file:
        file.write(bytes(512))
    os.utime(archive, (1, 1))  # another file, though an older one
    assert waiting() == {"download", "prepare"}


def test_touching_everything_reruns_nothing(dry_runs, project):
    later = time.time() + 60
    for top in ("Snakefile", "config.yaml", "small.yaml", "workflow", "envs", "profiles", "experiments"):
        for path in [project / top, *(project / top).rglob("*")]:
            os.utime(path, (later, later))
    assert dry_runs.names() == set()


def test_reformatting_the_library_reruns_nothing(dry_runs, project):
    """Formatted anew with other rules, docstrings changed, comments added."""
    scripts = project / "workflow" / "scripts"
    before = {path: path.read_bytes() for path in scripts.rglob("*.py")}
    try:
        command = [
            sys.executable,
            "-m",
            "ruff",
            "format",
            "--no-cache",
            "--line-length",
            "60",
            "--isolated",
            str(scripts),
        ]
        subprocess.run(command, check=True, capture_output=True)
        for path in before:
            text = path.read_text()
            if path.name != "__init__.py":
                path.write_text(
                    "# a comment\n" + re.sub(r'^( *)"""', r'\1"""Documented anew. ', text, count=1, flags=re.MULTILINE)
                )
        assert {path.read_bytes() for path in before} != set(before.values())
        assert dry_runs.names() == set()
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def test_threads_and_cores_rerun_nothing(dry_runs, project):
    assert dry_runs.names(cores=1) == set()
    rules = project / "workflow" / "rules" / "backbones.smk"
    text = rules.read_text()
    try:
        rules.write_text(re.sub("threads: .* 64", "threads: 3\n    resources:\n        mem_mb=1000", text))
        assert rules.read_text() != text
        assert dry_runs.names() == set()
    finally:
        rules.write_text(text)


def test_another_hash_seed_changes_nothing(project):
    """Sets whose order changes from process to process must not reach parameters."""
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "snakemake", "-n", "--configfile", "small.yaml"]
        done = subprocess.run(
            command, cwd=project, capture_output=True, text=True, env={**environment(), "PYTHONHASHSEED": seed}
        )
        assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


def test_as_a_command_too(project):
    """The server of the other tests agrees with the command that people use."""
    config = EXPERIMENT.replace("n_init: 1", "n_init: 4")
    (project / "command.yaml").write_text(config)
    done = snakemake(project, "-n", "--configfile", "command.yaml", "--quiet", "host")
    rules = set(re.findall(r"^(\w+) +\d+$", done.stdout + done.stderr, re.MULTILINE)) - {"total", "all"}
    assert rules == {"cluster", "evaluate", "plot_run", "leaderboard", "plot_experiment"} | SHOWS_THE_EXPERIMENT


# --- accepting results -----------------------------------------------------------------------------------------------


def test_results_can_be_accepted_under_changed_code(dry_runs, project):
    library = project / "workflow" / "scripts" / "deepclust"
    sources = {path: path.read_bytes() for path in (library / "pretraining/simclr.py", library / "heads/kmeans.py")}
    metadata = {file: file.read_bytes() for file in Path(project, ".snakemake", "metadata").iterdir()}
    records = {file: file.read_bytes() for file in project.glob("results/**/*provenance.json")}
    seeds = {path.parent: path for path in project.glob("results/clustering/**/.seeds-*")}
    try:
        for path, source in sources.items():
            path.write_bytes(source + b"\nRENAMED = True\n")
        assert {"pretrain simclr", "pretrain later", "pretrain elsewhere"} <= dry_runs.names()
        done = deepclust(project, "accept", "--configfile", "small.yaml", "--why", "a harmless change")
        assert done.returncode == 0, done.stderr
        assert dry_runs.names() == set()
        record = (project / "results" / "backbones" / "simclr" / "model.provenance.json").read_text()
        assert "a harmless change" in record
        # The seeds that are kept for later count as made by the new code, too, so that more seeds compute only those.
        moved = {path.parent for path in project.glob("results/clustering/**/.seeds-*") if path != seeds[path.parent]}
        assert moved == {path for path in seeds if path.parent.name in {"kmeans", "other"}}
        # Any other change is still one.
        for path, source in sources.items():
            path.write_bytes(source + b"\nCHANGED = True\n")
        assert "pretrain simclr" in dry_runs.names()
    finally:
        for path, source in sources.items():
            path.write_bytes(source)
        for path in project.glob("results/clustering/**/.seeds-*"):
            path.rename(seeds[path.parent])
        for file, content in (metadata | records).items():
            status = file.stat()
            file.write_bytes(content)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert dry_runs.names() == set()


def test_changed_options_are_not_accepted(dry_runs, project):
    config = EXPERIMENT.replace("n_init: 1", "n_init: 5")
    (project / "command.yaml").write_text(config)
    done = deepclust(project, "accept", "--configfile", "command.yaml", "--why", "not harmless at all")
    assert done.returncode == 0 and "of 0 jobs" in done.stdout
