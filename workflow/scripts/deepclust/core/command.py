"""The frame around every command of the workflow: arguments, code check, errors, signals, provenance.

A command is its rule: it declares the files of its rule as `Input` and `Output`, and its options as one model. It hands
a function to `run_job`, which parses them from the command line (`--input.features a b --output.clusters c --k 10`) and
records them all. Everything a user can do wrong ends in one line and exit status 1.
"""

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from deepclust.core import registry
from deepclust.core.errors import DeepclustError
from deepclust.core.files import remove_tree, write_json
from deepclust.core.fingerprint import HARMLESS, PACKAGE, code_digest, code_params, reachable_modules
from deepclust.core.options import Options
from deepclust.core.progress import Progress
from deepclust.core.provenance import Recorder
from deepclust.core.time_limit import seconds_left

# The last two are what Slurm sends before a limit or preemption, to every process of a step.
TERMINATING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

# How errors outside PyTorch's own class say it: those of the CPU, of a GPU that others fill, and of cuBLAS.
OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Files(BaseModel):
    """Files of a command, under the names that they have in its rule."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)

    def listed(self) -> list[tuple[str, Path]]:
        """Return every path with its name; the paths of a list are `features.0`, `features.1` and so on."""
        found = []
        for name, value in self:
            if isinstance(value, Sequence):
                found += [(f"{name}.{number}", path) for number, path in enumerate(value)]
            elif value is not None:
                found.append((name, value))
        return found

    def recorded(self) -> dict[str, Path]:
        """Return the files to hash into the provenance.

        Prepared images are not hashed if their manifest is there, too (`images.bin`, `images.json`): it holds the hash.
        A folder is known by the `model.json` of the backbones in it.
        """
        listed = self.listed()
        paths = {path for _, path in listed}
        found: dict[str, Path] = {}
        for name, path in listed:
            if path.is_dir():
                found |= {f"{name}.{inner.parent.name}": inner for inner in sorted(path.glob("*/model.json"))}
            elif path.suffix != ".bin" or path.with_suffix(".json") not in paths:
                found[name] = path
        return found


class JobArguments(BaseSettings):
    """Arguments that every command has.

    They belong to the run, not to the science. A command derives its own from this class: `input` and `output`
    (`Files`), `options` if it has a model of them, and whatever else the plan tells it. Fields with `exclude=True`
    belong to the run as well and are not recorded.
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        frozen=True,
        cli_exit_on_error=False,
        cli_enforce_required=True,
        nested_model_default_partial_update=True,
        cli_parse_none_str="<none>",  # "null" is a name like any other
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the command line alone, never from environment variables that happen to have such names."""
        return (init_settings,)

    input: Files = Files()
    """Files to read."""
    output: Files = Files()
    """Files to write."""
    code: str = ""
    """Digest of the code at planning time. The command refuses to write a result under any other; empty: no check."""
    progress: Path | None = None
    """File for live progress; without it a progress bar goes to the terminal."""
    threads: int = 0
    """Threads to use; 0: all."""
    provenance: Path | None = None
    """File that records how the result came about."""
    minutes: float | None = None
    """Time limit of the job, where it has one. Trainings save their state shortly before and fail, to be run again."""
    memory_mb: float | None = None
    """Memory that the job asked for, where it did; only recorded."""


Arguments = TypeVar("Arguments", bound=JobArguments)


class Job:
    """Means of a running command: its progress, and the record of the files that it read and wrote."""

    def __init__(self, rule: str, progress: Progress, argv: list[str]) -> None:
        self.rule = rule
        self.progress = progress
        self.argv = argv
        """The command's arguments, to start it again in other processes."""
        self.device = ""
        """Name of the device that did the work, for the provenance; empty: the CPU's."""
        self.options: dict[str, Any] = {}
        """The options, for the provenance; a command adds what it found out."""
        self.parts: list[dict[str, Any]] = []
        """The records of jobs that did parts of the work, for the provenance."""
        self.recorded = True
        """This process writes the provenance; False where another one that it works with does."""
        self.when_done: list[Callable[[], None]] = []
        """Functions to call when the result stands, e.g. to remove the state that it could be computed from again."""


def run_job(
    rule: str,
    arguments: type[Arguments],
    main: Callable[[Arguments, Job], None],
    *,
    method: tuple[str, str] | None = None,
    modules: Sequence[str] = (),
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Parse the command line into `arguments`, run `main`, write the provenance, exit.

    Args:
        rule: name of the command, equal to its file's name.
        method: the package and the flag of a method that is chosen by name, e.g. `("heads", "method")`. Its `Options`
            are the `options` of the command, and its module is part of the code's fingerprint.
        modules: modules that the command loads by name whatever its arguments, also part of the fingerprint.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    recorder = Recorder()
    progress = Progress(Path(path) if (path := _flag(argv, "progress")) else None, rule)
    try:
        if (threads := _flag(argv, "threads") or "").isdecimal() and int(threads):
            from deepclust.core.device import set_threads

            set_threads(int(threads))
        chosen = _chosen(arguments, argv, method[1]) if method else None
        modules = [*modules, f"deepclust.{method[0]}.{chosen}"] if method and chosen else modules
        options = registry.load(method[0], chosen).Options if method and chosen else None
        parsed = parse_arguments(rule, arguments, argv, options)
        _check_code(rule, modules, parsed)
        code = code_params(rule, modules)
        job = Job(rule, progress, argv)
        job.options = _recorded_options(parsed)
        main(parsed, job)
        _check_code(rule, modules, parsed, written=True)
        _check_modules(rule, modules)
        if parsed.provenance is not None and job.recorded:
            write_json(parsed.provenance, _provenance(recorder, job, code, parsed))
        for callback in job.when_done:
            callback()
    except DeepclustError as error:
        _fail(progress, str(error))
    except KeyboardInterrupt:
        _fail(progress, "interrupted")
    except Exception as error:
        if _is_out_of_memory(error):
            _fail(progress, "out of memory: give the job more, or use smaller batches")
        traceback.print_exc()
        _fail(progress, f"unexpected {type(error).__name__}: {error} (traceback above; please report it)")
    progress.clear()
    # Skip interpreter teardown: OpenMP runtimes of several libraries in one process may abort in it.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _chosen(arguments: type[JobArguments], argv: Sequence[str], flag: str) -> str | None:
    """The method that is named or, where the command has one, its default."""
    default = arguments.model_fields[flag].default
    return _flag(argv, flag) or (default if isinstance(default, str) else None)


def _recorded_options(arguments: JobArguments) -> dict[str, Any]:
    """Return the arguments that belong to the science, options among them."""
    own = arguments.model_dump(mode="json", exclude={*JobArguments.model_fields, "options"})
    options = getattr(arguments, "options", None)
    return own | (options.model_dump(mode="json") if isinstance(options, BaseModel) else {})


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether Python, PyTorch or the device had no memory left.

    PyTorch has a class of its own for devices only.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def _flag(argv: Sequence[str], name: str) -> str | None:
    """Return the last value of `--name value` or `--name=value`, which is needed before arguments can be parsed."""
    found = None
    for word, following in itertools.zip_longest(argv, argv[1:]):
        if word == f"--{name}":
            found = following
        elif word.startswith(f"--{name}="):
            found = word.partition("=")[2]
    return found


def parse_arguments(
    rule: str, arguments: type[Arguments], argv: Sequence[str], options: type[Options] | None = None
) -> Arguments:
    """Parse `argv` into the model.

    Lists are given as JSON, e.g. `--scale '[0.2, 1.0]'`; nested options with a dot.

    Args:
        options: the model of `arguments.options`, a method's; by default the one that the field is annotated with.
            Its fields are flags beside those of `arguments`.

    Raises:
        DeepclustError: unknown, missing or malformed arguments, all on one line.
    """
    if options is None and (field := arguments.model_fields.get("options")) is not None:
        declared: Any = field.annotation
        options = Options if declared is Any else declared  # any: of a method that is yet to be named
    flags = _flags_model(arguments, options)
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(flags, cli_prog_name=f"{rule}.py")
        parsed = CliApp.run(flags, cli_args=_parser_flags(argv), cli_settings_source=source, cli_exit_on_error=False)
        if options is None:
            return cast("Arguments", parsed)
        values: dict[str, Any] = {name: getattr(parsed, name) for name in arguments.model_fields if name != "options"}
        values["options"] = options(**{name: getattr(parsed, name) for name in options.model_fields})
        return cast("Arguments", arguments.model_construct(**values))  # all are validated
    except ValidationError as error:
        raise DeepclustError(f"{rule}: {describe_validation(error)}") from error
    except SettingsError as error:
        raise DeepclustError(f"{rule}: {error}") from error


def _flags_model(arguments: type[JobArguments], options: type[Options] | None) -> type[JobArguments]:
    """Return the flags of a command: its arguments, and its options beside them."""
    if options is None:
        return arguments
    own: dict[str, Any] = {
        name: (field.annotation, field) for name, field in arguments.model_fields.items() if name != "options"
    }
    bases: Any = (JobArguments, options)
    made = create_model(arguments.__name__, __base__=bases, __doc__=arguments.__doc__, **own)
    return cast("type[JobArguments]", made)


def _parser_flags(argv: Sequence[str]) -> list[str]:
    """Return the arguments in the forms that the parser knows.

    `--images a b` becomes `--images a --images b`, `--k 3` becomes `-k 3`, and `@file` stands for the lines of a file.
    """
    words: list[str] = []
    flag, has_value = "", True
    for word in argv:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            flag, has_value = name[1:] if len(name) == 3 else name, bool(equals)
            words.append(f"{flag}={value}" if equals else flag)
            continue
        for value in _lines(word[1:]) if word.startswith("@") else [word]:
            words += [flag, value] if has_value and flag else [value]
            has_value = True
    return words


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DeepclustError(f"cannot read the list {path}: {error.strerror}") from error


def describe_validation(error: ValidationError) -> str:
    """Return all problems that pydantic found, on one line."""
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())


def on_terminate(handler: Callable[[int], None], minutes: float | None = None) -> None:
    """Call `handler(signal number)` on the signals `TERMINATING`.

    Args:
        minutes: time limit of the job; shortly before, the handler is called with SIGALRM.
    """
    for number in (*TERMINATING, signal.SIGALRM):
        signal.signal(number, lambda received, _frame: handler(received))
    if minutes is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds_left(minutes))


def _provenance(recorder: Recorder, job: Job, code: list[str], arguments: JobArguments) -> dict[str, Any]:
    from deepclust.core.device import device_name

    return recorder.record(
        rule=job.rule,
        options=job.options,
        inputs=arguments.input.recorded(),
        outputs=arguments.output.recorded(),
        parts=job.parts,
        code=code,
        device=job.device or device_name(),
        requested={
            "threads": arguments.threads or None,
            "memory_mb": arguments.memory_mb,
            "minutes": arguments.minutes,
        },
    )


def _check_code(rule: str, modules: Sequence[str], arguments: JobArguments, written: bool = False) -> None:
    """Refuse to go on under code that the workflow did not plan with; remove the outputs if they are `written`."""
    if arguments.code and code_digest(rule, modules) != arguments.code:
        for _, path in arguments.output.listed() if written else []:
            remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise DeepclustError(
            f"the code of {rule} changed after this job was planned, so its result would be recorded under the wrong "
            "code: run snakemake again"
        )


def _check_modules(rule: str, modules: Sequence[str]) -> None:
    """Refuse a result that used a module outside the fingerprint: its changes would go unnoticed."""
    # A package's own (empty) __init__ counts with its modules.
    used = {
        name
        for name, module in sys.modules.items()
        if name.startswith(f"{PACKAGE}.") and not hasattr(module, "__path__")
    }
    untracked = used - reachable_modules(rule, modules) - HARMLESS
    if untracked:
        names = ", ".join(sorted(untracked))
        raise DeepclustError(f"{rule} used {names}, which its code fingerprint does not cover: name it in modules=")


def _fail(progress: Progress, message: str) -> NoReturn:
    message = " ".join(message.split())
    print(f"error: {message}", file=sys.stderr)
    progress.fail(message)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
