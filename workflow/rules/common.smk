# All helper functions of the rules.

import functools
import re
import sys
import time
from pathlib import Path
from shlex import quote

SCRIPTS = Path(workflow.basedir) / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

from snakemake.io import IOFile
from snakemake.settings.types import DeploymentMethod

from deepclust.core.fingerprint import code_digest, code_params
from deepclust.core.errors import DeepclustError
from deepclust.core.files import sha256_file, write_text
from deepclust.planning.downloads import announcement, planned_downloads
from deepclust.planning.environment import place_errors, prefer_this_python
from deepclust.planning.experiment_options import NAME_PATTERN
from deepclust.planning.frozen import freeze, thaw
from deepclust.planning.parameters import HALF_WHITENED, Parameters
from deepclust.planning.plan import PROTOCOLS, ExperimentError, make_plan
from deepclust.slurm.cluster import gpus_of
from deepclust.planning.strict_yaml import check_file, experiment_text
from deepclust.slurm.checks import folder_errors, launcher_errors, profile_errors, submit_to_slurm
from deepclust.planning.terminal import Watcher, closing_table, log_notes

prefer_this_python()

SCATTERED = ["extract_features"]
NAME = NAME_PATTERN.strip("^$")
SPLIT = "train|test|unlabeled"
RUN = "{dataset}/{backbones}/{head}/k{k}-{protocol}"


def default_experiment():
    """`config.yaml` of the working directory, else the one beside the Snakefile."""
    here = Path("config.yaml")
    path = here if here.exists() else Path(workflow.basedir) / here
    stop_with(check_file(path))  # before Snakemake reads it, whose messages do not say where
    return str(path)


def stop_with(lines):
    """End with these lines, if there are any."""
    if lines:
        print(*lines, sep="\n", file=sys.stderr)
        sys.exit(1)


def ending(function):
    """A function whose errors end planning with one line, rather than with Snakemake's traceback."""

    @functools.wraps(function)
    def ended(*words, **named):
        try:
            return function(*words, **named)
        except DeepclustError as error:
            stop_with([error])

    return ended


stop_with(place_errors(str(workflow.main_snakefile)))


@ending
def planned():
    """In a job that plans again, on a node or in a process of its own: what was planned."""
    return thaw() if workflow.remote_exec or workflow.subprocess_exec else None


PLANNED = planned()
DIGESTS = dict(PLANNED.code) if PLANNED else {}


def plan_experiment(config, configfiles):
    """Check the experiment; end with one line per problem if it cannot be planned."""
    if PLANNED is not None:
        config, configfiles = PLANNED.config, []
    try:
        return Parameters(make_plan(dict(config), [Path(file) for file in configfiles]))
    except ExperimentError as error:
        stop_with(error.lines)


def shown(path):
    """A path as short as the working directory allows."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def image():
    """The container of all jobs, if they are to run in one: Snakemake refuses blanks in its path even if it is not used."""
    if DeploymentMethod.APPTAINER not in workflow.deployment_settings.deployment_method:
        return None
    path = shown(Path(workflow.basedir) / "envs" / "deepclust.sif")
    if not re.fullmatch(r"[\w/.@%+=:,-]+", path):
        stop_with(
            [f"Snakemake cannot name {path} to Apptainer: run it in the folder of the clone, without --directory"]
        )
    return path


@functools.cache
@ending
def fingerprint(script, modules=()):
    """`module:hash` strings of a script and all it can reach: what the code does, not how it is written."""
    return code_params(script, modules)


def digest(script, modules):
    """One digest over a fingerprint; in a job that plans again on a node, the one it was planned with."""
    name = " ".join([script, *modules])
    if name not in DIGESTS:
        DIGESTS[name] = code_digest(script, modules)
    return DIGESTS[name]


def freeze_plan():
    """Let jobs on other machines know what was planned."""
    jobs = list(workflow.dag.needrun_jobs())
    for job in jobs:
        job.params  # they are not made before they are asked for, and ask for the digests
    made = [job for job in jobs if job.rule.name == "extract_features"]
    parts = {str(job.output.features): list(map(str, job.input.parts)) for job in made}
    freeze(EXPERIMENT.config, DIGESTS, parts, Path(".snakemake") / "deepclust")


def code(script):
    """The part of a script's fingerprint that is the same for all its jobs."""
    return fingerprint(script)


def method_code(script, modules):
    """The rest of it: what the script loads by name, as a parameter function."""
    return lambda wildcards: [
        item for item in fingerprint(script, modules(wildcards)) if item not in fingerprint(script)
    ]


def command(script, modules=lambda wildcards: ()):
    """A script with the digest of its code, which it checks when it starts and before it ends, and what its job asked for.

    It asks for `resources`, so that Snakemake does not record it: where the scripts are, or how much memory there is,
    is no reason to run a job again.
    """
    path = quote(shown(SCRIPTS / f"{script}.py"))
    return lambda wildcards, resources: f"{path} --code {digest(script, modules(wildcards))}{requested(resources)}"


def requested(resources):
    """Time limit and memory of a job, as far as a profile sets them and they are known yet."""
    flags = {"minutes": resources.get("runtime"), "memory_mb": resources.get("mem_mb")}
    return "".join(f" --{name} {value}" for name, value in flags.items() if isinstance(value, int))


def backbone_modules(wildcards):
    """The module of a backbone's method."""
    return (EXPERIMENT.backbone_module(wildcards.backbone),)


def head_modules(wildcards):
    """The module of a head's method."""
    return (EXPERIMENT.head_module(wildcards.head),)


def loader_modules(wildcards):
    """The module of a dataset's loader."""
    return (EXPERIMENT.loader_module(wildcards.dataset),)


def names_where(wanted):
    """A wildcard constraint: the backbones for which `wanted(name)` holds."""
    return any_of(name for name in EXPERIMENT.config["backbones"] if wanted(name))


def any_of(names):
    """A pattern of these names and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


def made_otherwise():
    """A pattern of the backbones that are no raw pixels, so that these see whatever else the experiment does not define.

    Where an experiment that is not this one has left a backbone, whose weights this one may take, no rule makes it.
    """
    defined = EXPERIMENT.config["backbones"]
    there = [path.parent.name for path in Path("results/backbones").glob("*/model.json")]
    trained = [name for name in defined if EXPERIMENT.is_fetched(name) or EXPERIMENT.is_pretrained_here(name)]
    return any_of([*trained, *(name for name in there if name not in defined)])


@ending
def archives(wildcards):
    """The downloads that a split is prepared from, if any."""
    return [f"resources/downloads/{key}" for key in EXPERIMENT.archives(wildcards.dataset, wildcards.split)]


def archives_flag(wildcards, input):
    """Where they are, for the command line."""
    return f"--archives {' '.join(map(quote, input.archives))}" if input.archives else ""


@ending
def known_backbone(wildcards):
    """No input; of a backbone that the experiment does not define it says so."""
    EXPERIMENT.plan.check_defined("backbones", wildcards.backbone)
    return []


def weights_files(wildcards):
    """The files that a backbone's weights are read from, if they are not on the hub."""
    return EXPERIMENT.weights_files(wildcards.backbone)


@ending
def weights_states(wildcards):
    """What tells whether those among them that are files of your own are still the same."""
    return EXPERIMENT.weights_states(wildcards.backbone)


def weights_flags(wildcards, input):
    """Where they are, for the command line."""
    return " ".join(f"--{name} {quote(path)}" for name, path in input.items())


def downloads(wildcards):
    """What the runs of the experiment need from elsewhere: archives, and backbones that others trained."""
    fetched = [name for name in EXPERIMENT.backbones() if EXPERIMENT.is_fetched(name)]
    return [
        *(f"resources/downloads/{key}" for key in EXPERIMENT.needed_archives()),
        *(f"results/backbones/{name}/model.json" for name in fetched),
    ]


def pretrain_inputs(wildcards):
    """The images that a backbone is pretrained on, and the backbone it starts from."""
    options = EXPERIMENT.config["backbones"][wildcards.backbone]
    folders = [f"results/data/{options['dataset']}/{split}" for split in options["splits"]]
    start, facts = options["start_from"], EXPERIMENT.backbone_facts(wildcards.backbone)
    splits = [{"dataset": options["dataset"], "backbone": start, "split": split} for split in options["splits"]]
    return {
        "images": [f"{folder}/images.bin" for folder in folders],
        "manifests": [f"{folder}/images.json" for folder in folders],
        **({"start": f"results/backbones/{start}/model.json"} if start else {}),
        **({"native": f"results/backbones/{start}/native.safetensors"} if facts.get("needs_clusters") else {}),
        **(
            {"neighbors": [NEIGHBORS.format(**each, kind="neighbors") for each in splits]}
            if facts.get("needs_neighbors")
            else {}
        ),
    }


def start_flags(wildcards, input):
    """Where training starts from, if not from random weights."""
    start = f"--start_model {quote(input.start)}" if "start" in input.keys() else ""
    start += f" --neighbors {' '.join(input.neighbors)}" if "neighbors" in input.keys() else ""
    state = EXPERIMENT.config["backbones"][wildcards.backbone]["resume_from"]
    return f"{start} --resume_from {quote(state)}" if state else start


def launcher_flags(wildcards, resources):
    """How the processes of a training are started. It asks for `resources`, so that Snakemake does not record it."""
    gpus = resources.get("gpu") or sum(gpus_of(str(resources.get("gres") or "")).values())
    processes = f"--processes {gpus}" if isinstance(gpus, int) and gpus > 0 else ""
    return str(EXPERIMENT.launcher()) or processes


@ending
def run_of(wildcards):
    """The run of a job."""
    return EXPERIMENT.run(RUN.format(**dict(wildcards.items())))


@ending
def download_options(wildcards):
    """Where an archive comes from and what it must be."""
    return EXPERIMENT.download(f"{wildcards.key}/{wildcards.file}")


@ending
def local_sources(wildcards):
    """The state of sources that are files here: another file is another archive."""
    return EXPERIMENT.local_sources(f"{wildcards.key}/{wildcards.file}")


def prepare_options(wildcards):
    """How a dataset is read."""
    return EXPERIMENT.prepare(wildcards.dataset, wildcards.split)


def listings(wildcards):
    """What is in the folders and files of your own that a dataset is read from."""
    return listings_of(wildcards.dataset)


@functools.cache
@ending
def listings_of(dataset):
    """The same for all splits, so that they are looked through once in a plan."""
    return EXPERIMENT.listings(dataset)


def backbone_options(wildcards):
    """How a backbone is made."""
    return EXPERIMENT.backbone(wildcards.backbone)


def extract_options(wildcards):
    """How features are read out of a backbone."""
    return EXPERIMENT.extract_features(wildcards.backbone)


def parts(wildcards):
    """The records of the parts that features are put together from; none where one job makes them.

    Features that are there keep the parts they were made in, so that another number of parts makes nothing anew.
    """
    features = IOFile(FEATURES.format(**dict(wildcards.items())))
    if PLANNED is not None:
        return PLANNED.parts.get(features, [])
    made = workflow.persistence.input(features) if Path(features).exists() else None
    if made is not None:
        return [path for path in made if "/parts/" in path]
    number = workflow.resource_settings.overwrite_scatter.get("extract_features", 1)
    return gather.extract_features(PART, **dict(wildcards.items())) if number > 1 else []


def parts_flag(wildcards, input):
    """Where they are, for the command line, in their order."""
    paths = sorted(input.parts, key=lambda path: int(Path(path).name.partition("-")[0]))
    return f"--parts {' '.join(map(quote, paths))}" if paths else ""


def neighbor_options(wildcards):
    """How neighbors are searched."""
    return EXPERIMENT.find_neighbors(wildcards.dataset, wildcards.backbone, wildcards.split, wildcards.kind)


def choose_k_options(wildcards):
    """How the number of clusters is chosen."""
    return EXPERIMENT.choose_k(wildcards.dataset, wildcards.backbones.split("+"), wildcards.protocol)


def cluster_options(wildcards):
    """The head, its options and its seeds."""
    return EXPERIMENT.cluster(run_of(wildcards))


def cluster_neighbors(wildcards):
    """Neighbors among the images of all training splits, for heads that use them."""
    kind = EXPERIMENT.neighbors_of(run_of(wildcards).head)
    return joined_neighbors("train", kind)(wildcards) if kind else []


def neighbors_flag(wildcards, input):
    """Where the neighbors are, for heads that use them."""
    return f"--neighbor_files {' '.join(input.neighbors)}" if input.neighbors else ""


def cluster_k(wildcards):
    """The number of clusters that was chosen, for runs with `k: auto`."""
    return CHOSEN_K.format(**dict(wildcards.items())) if wildcards.k == "auto" else []


def k_flag(wildcards, input):
    """Where that number is, for runs with `k: auto`."""
    return f"--chosen_k {quote(input.chosen_k)}" if input.chosen_k else ""


def cluster_members(wildcards):
    """Clusters of other heads, for heads that combine them."""
    return [CLUSTERS.format(run=path) for path in EXPERIMENT.plan.members(run_of(wildcards))]


def members_flag(wildcards, input):
    """Where the clusters of other heads are, for heads that combine them."""
    return f"--member_clusters {' '.join(input.members)}" if input.members else ""


def cluster_native(wildcards):
    """The clusters of the backbone's own method, for the head that predicts with them."""
    needed = EXPERIMENT.head_facts(wildcards.head).get("needs_native")
    return f"results/backbones/{wildcards.backbones}/native.safetensors" if needed else []


def native_flag(wildcards, input):
    """Where they are, for the head that predicts with them."""
    return f"--native {quote(input.native)}" if input.native else ""


def probe_options(wildcards):
    """How the ceilings are measured."""
    return EXPERIMENT.probe()


@ending
def snapshot_inputs(wildcards):
    """Images and labels that snapshots are scored with."""
    EXPERIMENT.plan.check_defined("backbones", wildcards.backbone)
    if not EXPERIMENT.is_pretrained_here(wildcards.backbone):
        raise DeepclustError(f"{wildcards.backbone} has no snapshots: it is not trained here")
    splits = zip(("train", "score"), EXPERIMENT.snapshot_splits(wildcards.dataset))
    patterns = {"images": IMAGES, "manifest": MANIFESTS, "labels": LABELS}
    files = {
        f"{name}_{role}": pattern.format(dataset=wildcards.dataset, split=split)
        for role, split in splits
        for name, pattern in patterns.items()
    }
    train, _ = EXPERIMENT.snapshot_splits(wildcards.dataset)
    return {**files, "classes": CLASSES.format(dataset=wildcards.dataset, split=train)}


def snapshot_options(wildcards):
    """How snapshots are scored."""
    return EXPERIMENT.score_snapshots()


def snapshot_scores(wildcards):
    """Scores over epochs of all backbones that keep snapshots."""
    return [SNAPSHOTS.format(dataset=dataset, backbone=name) for dataset, name in EXPERIMENT.snapshots()]


def layer_probe_options(wildcards):
    """How the stages of a network are probed."""
    return EXPERIMENT.probe_layers()


def held_out_files(which, pattern):
    """An input function: `pattern` for the splits that stages are probed on ("train") or scored on ("score")."""

    @ending
    def files(wildcards):
        train, score = EXPERIMENT.plan.run_splits(wildcards.dataset, "held-out")
        splits = {"train": train, "score": score}[which]
        return [pattern.format(dataset=wildcards.dataset, split=split) for split in splits]

    return files


def score_flags(wildcards, input):
    """Where the images to score are, if there is a test split."""
    if not input.score_images:
        return ""
    return f"--images_score {' '.join(input.score_images)} --labels_score {' '.join(input.score_labels)}"


def layer_tables(wildcards):
    """The probed stages of all backbones that the experiment asks for."""
    return [f"results/evaluation/{dataset}/{backbone}/layers.csv" for dataset, backbone in EXPERIMENT.probed_layers()]


def layer_figure(wildcards):
    """The figure of the probed stages, if there are any."""
    return "results/report/layers.png" if layer_tables(wildcards) else []


def layer_flag(wildcards, input):
    """Where it is."""
    return f"--layer_figure {input.layers}" if input.layers else ""


def evaluate_options(wildcards):
    """How a run is scored, and what it is called."""
    return EXPERIMENT.evaluate(run_of(wildcards))


@ending
def run_splits(wildcards):
    """The splits a run is fitted on and those it is scored on."""
    EXPERIMENT.plan.check_protocol(wildcards.dataset, wildcards.protocol)
    return EXPERIMENT.plan.run_splits(wildcards.dataset, wildcards.protocol)


def split_files(which, pattern):
    """An input function: `pattern` for the splits of a run ("train", "score" or "all"), and for each of its backbones."""

    def files(wildcards):
        train, score = run_splits(wildcards)
        splits = {
            "train": train,
            "score": score,
            "all": EXPERIMENT.plan.all_splits(wildcards.dataset, wildcards.protocol),
        }[which]
        backbones = wildcards.backbones.split("+") if "{backbone}" in pattern else [""]
        return [
            pattern.format(dataset=wildcards.dataset, split=split, backbone=backbone)
            for split in splits
            for backbone in backbones
        ]

    return files


def joined_neighbors(which, kind):
    """An input function: for each backbone of a run, neighbors among the images of all its "train" or "score" splits."""

    def files(wildcards):
        train, score = run_splits(wildcards)
        split = "+".join({"train": train, "score": score}[which])
        names = wildcards.backbones.split("+")
        return [NEIGHBORS.format(dataset=wildcards.dataset, split=split, backbone=name, kind=kind) for name in names]

    return files


def joined_features(wildcards):
    """Features of the splits whose images are searched together."""
    names = {"dataset": wildcards.dataset, "backbone": wildcards.backbone}
    return [FEATURES.format(split=split, **names) for split in wildcards.split.split("+")]


def map_options(wildcards):
    """How the features are mapped to two dimensions."""
    _, score = run_splits(wildcards)
    return EXPERIMENT.report("map", score=score)


def figure_options(wildcards):
    """How a run is drawn."""
    _, score = run_splits(wildcards)
    return EXPERIMENT.report("gallery", score=score)


def page_options(wildcards):
    """What the report page shows."""
    return EXPERIMENT.report("page")


def training_logs(wildcards):
    """The logs of all backbones that runs use and that are pretrained here."""
    used = {name for run in EXPERIMENT.plan.runs for backbone in run.backbones for name in EXPERIMENT.lineage(backbone)}
    names = [name for name in EXPERIMENT.config["backbones"] if name in used and EXPERIMENT.is_pretrained_here(name)]
    return [f"results/backbones/{name}/training.jsonl" for name in names]


FEATURES = "results/features/{dataset}/{backbone}/{split}/features.npy"
PART = "results/features/{dataset}/{backbone}/{split}/parts/{scatteritem}.provenance.json"
NEIGHBORS = "results/features/{dataset}/{backbone}/{split}/{kind}.npy"
IMAGES = "results/data/{dataset}/{split}/images.bin"
MANIFESTS = "results/data/{dataset}/{split}/images.json"
LABELS = "results/labels/{dataset}/{split}/labels.npy"
CLASSES = "results/labels/{dataset}/{split}/classes.json"
IDS = "results/labels/{dataset}/{split}/ids.csv"


SNAPSHOTS = "results/evaluation/{dataset}/{backbone}/snapshots.json"
CHOSEN_K = "results/clustering/{dataset}/{backbones}/k/{protocol}.json"
CHOICE_FIGURE = "results/report/{dataset}/{backbones}/{protocol}/k.png"
CLUSTERS = "results/clustering/{run}/clusters.safetensors"
METRICS = "results/evaluation/{run}/metrics.json"
ASSIGNMENTS = "results/evaluation/{run}/assignments.csv"
RECORDS = "results/evaluation/{run}/metrics.provenance.json"
FIGURES = [f"results/report/{{run}}/{figure}.png" for figure in ("confusion", "gallery", "map")]
REPORTING = SCRIPTS / "deepclust" / "reporting"
PUBLISHED = shown(REPORTING / "published.csv")
PAGE_TEMPLATE = shown(REPORTING / "page.html")
PAGE_STYLE = shown(REPORTING / "page.css")


def run_files(*patterns):
    """The patterns for every run of the experiment."""
    return [pattern.format(run=run.path) for run in EXPERIMENT.plan.runs for pattern in patterns]


def experiment_yaml(wildcards):
    """The experiment with all its defaults."""
    return experiment_text(EXPERIMENT.config)


def run_lists(wildcards):
    """The files of all runs, one per line, in the order of the outputs of `list_runs`."""
    lists = [run_files(*patterns) for patterns in ([METRICS], [RECORDS], FIGURES)] + [job_records()]
    return ["".join(f"{path}\n" for path in paths) for paths in lists]


def job_records():
    """The records of all jobs that runs are made of. They are older than the metrics, so no inputs of the report."""
    paths = []
    for run in EXPERIMENT.plan.runs:
        train, score = EXPERIMENT.plan.run_splits(run.dataset, run.protocol)
        joined = "+".join(run.backbones)
        for backbone in run.backbones:
            for name in EXPERIMENT.lineage(backbone):
                options = EXPERIMENT.config["backbones"][name]
                splits = options["splits"] if EXPERIMENT.is_pretrained_here(name) else []
                paths += [f"results/data/{options['dataset']}/{split}/images.provenance.json" for split in splits]
                paths.append(f"results/backbones/{name}/model.provenance.json")
                paths += started_from(name)
        for split in EXPERIMENT.plan.all_splits(run.dataset, run.protocol):
            paths.append(f"results/data/{run.dataset}/{split}/images.provenance.json")
            features = [f"results/features/{run.dataset}/{backbone}/{split}" for backbone in run.backbones]
            paths += [f"{folder}/features.provenance.json" for folder in features]
        kind = EXPERIMENT.neighbors_of(run.head)
        for splits, name in [(score, HALF_WHITENED)] + ([(train, kind)] if kind else []):
            folders = [f"results/features/{run.dataset}/{backbone}/{'+'.join(splits)}" for backbone in run.backbones]
            paths += [f"{folder}/{name}.provenance.json" for folder in folders]
        if run.k == "auto":
            paths.append(f"results/clustering/{run.dataset}/{joined}/k/{run.protocol}.provenance.json")
        paths.append(f"results/clustering/{run.path}/clusters.provenance.json")
        paths.append(f"results/evaluation/{run.dataset}/{joined}/probe/{run.protocol}.provenance.json")
        paths.append(f"results/report/{run.dataset}/{joined}/{run.protocol}/map.provenance.json")
        paths += [f"results/evaluation/{run.path}/metrics.provenance.json"]
        paths += [f"results/report/{run.path}/figures.provenance.json"]
    held_out = [(name, split) for name, _ in EXPERIMENT.snapshots() for split in EXPERIMENT.snapshot_splits(name)]
    for name, _ in EXPERIMENT.probed_layers():
        held_out += [(name, split) for splits in EXPERIMENT.plan.run_splits(name, "held-out") for split in splits]
    paths += [f"results/data/{name}/{split}/images.provenance.json" for name, split in held_out]
    paths += [path.replace(".json", ".provenance.json") for path in snapshot_scores(None)]
    paths += [f"results/evaluation/{d}/{backbone}/layers.provenance.json" for d, backbone in EXPERIMENT.probed_layers()]
    return sorted(set(paths))


def lost_results(wildcards):
    """Of every job what is missing although results of others are there: a job that fails loses what it was to replace.

    Snakemake asks for nothing that was lost if what was made from it is there, so that old scores would pass for new ones.
    Downloads are left out, which may be removed once they are read.
    """
    figures = [figure(wildcards) for figure in (training_figure, snapshots_figure, layer_figure)]
    results = [
        *job_records(),
        *run_files(CLUSTERS, METRICS, ASSIGNMENTS),
        *choices_of_k(CHOICE_FIGURE),
        *filter(None, figures),
        "results/leaderboard.csv",
        "results/report/leaderboard.png",
        "results/experiment.yaml",
        "results/lists/jobs.txt",
    ]
    missing = [path for path in results if not Path(path).exists()]
    return missing if len(missing) < len(results) else []


def started_from(backbone):
    """The records of the neighbors that a pretraining reads, and of the features that they are found in."""
    if not EXPERIMENT.backbone_facts(backbone).get("needs_neighbors"):
        return []
    options = EXPERIMENT.config["backbones"][backbone]
    folders = [f"results/features/{options['dataset']}/{options['start_from']}/{s}" for s in options["splits"]]
    return [f"{folder}/{name}.provenance.json" for folder in folders for name in ("features", "neighbors")]


def write_files(output, texts):
    """Write each text to its output."""
    for path, text in zip(output, texts):
        write_text(Path(path), text)


def contents(*paths):
    """What the project's own data files hold, wherever the project lies."""
    return [sha256_file(path) for path in paths]


def flags(**paths):
    """Where they are, for the command line. It asks for `input`, so that Snakemake does not record it."""
    words = " ".join(f"--{name} {quote(path)}" for name, path in paths.items())
    return lambda wildcards, input: words


def training_figure(wildcards):
    """The training curves, if any backbone of the experiment is pretrained here."""
    return "results/report/training.png" if training_logs(wildcards) else []


def training_flag(wildcards, input):
    """Where the training curves are."""
    return f"--training_figure {input.training}" if input.training else ""


def snapshots_figure(wildcards):
    """The scores over epochs, if any backbone keeps snapshots."""
    return "results/report/snapshots.png" if snapshot_scores(wildcards) else []


def snapshots_flag(wildcards, input):
    """Where the scores over epochs are drawn."""
    return f"--snapshots_figure {input.snapshots}" if input.snapshots else ""


def choices_of_k(pattern):
    """The pattern for every choice of k that runs ask for, in the order of the runs."""
    chosen = [run for run in EXPERIMENT.plan.runs if run.k == "auto"]
    settings = dict.fromkeys((run.dataset, "+".join(run.backbones), run.protocol) for run in chosen)
    return [pattern.format(dataset=d, backbones=b, protocol=p) for d, b, p in settings]


def choices_flag(wildcards, input):
    """How numbers of clusters were chosen, if any were."""
    if not input.choices:
        return ""
    return f"--choices {' '.join(input.choices)} --choice_figures {' '.join(input.choice_figures)}"


STARTED = time.time()


def check_profile():
    """End if the profile names rules or resources that do not exist."""
    stop_with(profile_errors(workflow.resource_settings, [rule.name for rule in workflow.rules], SCATTERED))


def check_submission():
    """End before the first job if results cannot be written, or if the jobs do not fit the cluster."""
    stop_with(folder_errors([Path("results"), Path("logs"), Path("resources")]))
    stop_with(launcher_errors(EXPERIMENT.config["launcher"], workflow.dag.needrun_jobs()))
    if type(workflow.executor_settings).__module__ == "snakemake_executor_plugin_slurm":
        jobs = workflow.dag.needrun_jobs()
        stop_with(submit_to_slurm(workflow.executor_settings, jobs, Path.cwd(), workflow.nodes))


def announce_downloads():
    """Say how much will be downloaded."""
    lines = announcement(*planned_downloads(workflow.dag.needrun_jobs()))
    print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr)


def announce_parts():
    """Say which features are made again in another number of parts than the profile wants."""
    wanted = workflow.resource_settings.overwrite_scatter.get("extract_features", 1)
    made = [job for job in workflow.dag.needrun_jobs() if job.rule.name == "extract_features"]
    for job in made:
        before = max(len(job.input.parts), 1)
        if before != wanted:
            print(
                f"{job.output.features} is made again in parts as before: {before}, not {wanted} as set-scatter says; "
                "remove it to have it otherwise",
                file=sys.stderr,
            )


def watch_jobs():
    """Show the progress of running jobs in the terminal."""
    Watcher(Path("logs")).start()


def show_results():
    """The closing table, if this run made it."""
    table, page = Path("results/leaderboard.csv"), Path("results/report.html")
    if any(path.exists() and path.stat().st_mtime >= STARTED for path in (table, page)):
        floors = [name for name, options in EXPERIMENT.config["backbones"].items() if options["method"] == "pixels"]
        print(closing_table(table, page, floors), file=sys.stderr)


def show_notes():
    """The reasons that failed jobs gave, and warnings."""
    if notes := log_notes(Path("logs"), STARTED):
        print(*notes, sep="\n", file=sys.stderr)
