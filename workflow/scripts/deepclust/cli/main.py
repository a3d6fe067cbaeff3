"""The command `deepclust`: commands that work on a clone, and every rule's command."""

import ast
import importlib
import runpy
import sys
from collections.abc import Sequence

from deepclust.core.errors import DeepclustError, did_you_mean
from deepclust.core.fingerprint import command_path, commands

WITH_A_CLONE = {
    "plan": "Tell what snakemake would run, and why, on one screen.",
    "accept": "Keep results under code that changed without changing what it computes.",
    "generate": "Write the files that are derived from the code.",
}
WITH_A_RUN = {"predict": "Tell the clusters of new images by a run."}


def main(words: Sequence[str] | None = None) -> int:
    """Run `deepclust WORDS`, by default those of the command line.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if words is None else words)
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name in WITH_A_CLONE or name in WITH_A_RUN:
        if name in WITH_A_CLONE:
            from deepclust.cli.clone import use_library_of_clone

            use_library_of_clone(words)
        sys.argv = [f"deepclust {name}", *words[1:]]
        try:
            status: int = importlib.import_module(f"deepclust.cli.{name}").main()
        except DeepclustError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return status
    if name in commands():
        sys.argv = [str(command_path(name)), *words[1:]]
        runpy.run_path(sys.argv[0], run_name="__main__")
        return 0
    known = [*WITH_A_CLONE, *WITH_A_RUN, *commands()]
    print(f"error: unknown command {name!r}{did_you_mean(name, known)}", file=sys.stderr)
    return 1


def usage() -> str:
    """Return all commands, one on a line."""
    rules = {name: _first_line(name) for name in commands()}
    width = max(map(len, [*WITH_A_CLONE, *WITH_A_RUN, *rules]))
    groups = {
        "With a clone of the workflow:": WITH_A_CLONE,
        "With a run:": WITH_A_RUN,
        "The commands of the rules:": rules,
    }
    lines = ["usage: deepclust COMMAND [--help] ..."]
    for title, group in groups.items():
        lines += ["", title, *(f"  {name:{width}}  {text}" for name, text in group.items())]
    return "\n".join(lines)


def _first_line(name: str) -> str:
    text = ast.get_docstring(ast.parse(command_path(name).read_bytes())) or ""
    return text.partition("\n")[0]
