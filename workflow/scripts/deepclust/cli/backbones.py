"""Texts derived from the presets and from timm: the table of docs/backbones.md and the list of timm's networks."""

from typing import Any
from urllib.parse import urlsplit

import yaml

from deepclust.cli.clone import CLONE
from deepclust.core.addresses import hub_file

PACKAGE = CLONE / "workflow" / "scripts" / "deepclust" / "backbones"
PAGE = CLONE / "docs" / "backbones.md"
NETWORKS = PACKAGE / "timm_models.txt"
START, END = "<!-- generated from presets.yaml: begin -->\n", "<!-- generated from presets.yaml: end -->\n"


def network_names() -> str:
    """Return the names of timm's networks, and of all that it has weights for, one a line."""
    from deepclust.models.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import timm

    return "".join(f"{name}\n" for name in sorted({*timm.list_models(), *timm.list_pretrained()}))


def page_with_table() -> str:
    """Return docs/backbones.md with its table made anew."""
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    _, after = rest.split(END)
    presets = yaml.safe_load((PACKAGE / "presets.yaml").read_text(encoding="utf-8"))
    lines = [
        "| preset | network | saw | supervision | pixels, crop | reads | weights | licence, paper |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(name, preset) for name, preset in presets.items()),
    ]
    return before + START + "\n".join(lines) + "\n" + END + after


def _row(name: str, preset: dict[str, Any]) -> str:
    arguments = ", ".join(f"{key} {value}" for key, value in preset.get("arguments", {}).items())
    weights = preset["weights"]
    on_hub = hub_file(weights)
    where = f"hub: {on_hub.repository}" if on_hub else f"[{urlsplit(weights).hostname}]({weights})"
    cells = [
        f"`{name}`",
        f"`{preset['model']}`" + (f" ({arguments})" if arguments else ""),
        preset["data"],
        preset["supervision"],
        f"{preset['image_size']}, {preset['crop_fraction']:g}",
        preset["pooling"],
        where,
        ", ".join(str(preset[key]) for key in ("license", "paper") if key in preset),
    ]
    return f"| {' | '.join(cells)} |"
