"""Docstrings are read once: sentences have the order of plain English, and parts of the code their own names."""

import ast
import re

import pytest

from deepclust.core.fingerprint import SCRIPTS

LAB = SCRIPTS.parent.parent / "lab"
OPENINGS = re.compile(r"(What|Where|Whether|Of)\b")
SECTIONS = re.compile(r"(Args|Raises)\b")
WORDS = re.compile(r"\b(rooms?|houses?)\b", re.IGNORECASE)


def docstrings(source):
    """Line and text of every string that stands alone: of modules, classes, functions, and below attributes."""
    for node in ast.walk(ast.parse(source)):
        for statement in body if isinstance(body := getattr(node, "body", None), list) else []:
            match statement:
                case ast.Expr(ast.Constant(str(text))):
                    yield statement.lineno, text


def faults(text):
    """Ways in which a docstring asks to be read twice."""
    flat = " ".join(text.split())
    found = [sentence for sentence in re.split(r"(?<=[.!?:;])\s+", flat) if OPENINGS.match(sentence)]
    return found + [match[0] for match in [SECTIONS.match(flat)] if match] + WORDS.findall(flat)


def test_docstrings_of_the_library_the_commands_and_the_lab_are_read_once():
    read, faulty = 0, {}
    for file in [*SCRIPTS.rglob("*.py"), *LAB.glob("*.py")]:
        for line, text in docstrings(file.read_bytes()):
            read += 1
            if found := faults(text):
                faulty[f"{file.name}:{line}"] = found
    assert not faulty
    assert read > 1000


@pytest.mark.parametrize(
    "text",
    [
        "Where a file lies.",
        "Return a file. Of several, the first.",
        "A file.\n\nWhat is in it\nis not read.",
        'Args: "path": a file.',
        "Raises: DeepclustError: there is no file.",
        "Import a method of a room.",
    ],
)
def test_a_docstring_that_is_read_twice_is_found(text):
    assert faults(text)
    assert list(docstrings(f"class A:\n    x = 1\n    '''{text}'''")) == [(3, text)]


@pytest.mark.parametrize(
    "text", ["Return a file.\n\nArgs:\n    path: where it lies.\n\nRaises:\n    OSError: it cannot be read.", "Office."]
)
def test_a_docstring_that_is_read_once_is_not(text):
    assert not faults(text)
