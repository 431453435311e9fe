"""The package of docs/extending.md, laid where Python and importlib.metadata find it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def write_example_package(folder: Path) -> Path:
    """Write every example of the document into `folder`, with the metadata of an installed package."""
    blocks = BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))
    for language, text in blocks:
        if language == "python":
            path = folder / text.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    (project,) = (tomllib.loads(text)["project"] for language, text in blocks if language == "toml")
    metadata = folder / f"lab_examples-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join([*lines, ""]))
    return folder
