"""Rows of a user's data: a file, a folder or a dataset of the hub, through Hugging Face `datasets` but for JSON.

Files are streamed and datasets memory-mapped, so what is read never has to fit into memory. JSON (lines or one array),
CSV, TSV, Parquet and Arrow files are told apart by their names' ends, also compressed ones.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pydantic import Field

from aipo_lab.assets.hub import hub_answers
from aipo_lab.core.config import StrictModel, suggest
from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.hashing import sha256_of
from aipo_lab.core.offline import without_hub
from aipo_lab.core.paths import is_there
from aipo_lab.prompts.json_rows import json_rows

INSTALL = "pip install 'aipo-lab[data]'"
READERS: dict[str, tuple[str, dict[str, Any]]] = {
    "csv": ("csv", {"encoding": "utf-8-sig", "keep_default_na": False}),
    "tsv": ("csv", {"encoding": "utf-8-sig", "keep_default_na": False, "sep": "\t"}),
    "parquet": ("parquet", {}),
    "arrow": ("arrow", {}),
}
"""By the end of a file's name: the builder of `datasets` and its options. `None` or `NA` in a CSV is a text."""

JSON_ENDS = ("jsonl", "ndjson", "json")
COMPRESSIONS = ("gz", "bz2", "xz")
LOOKED_AT_ROWS = 100
"""Rows whose keys are looked at for the columns: JSON may leave out a key where it has no value."""
SAVED_FILES = ("dataset_info.json", "dataset_dict.json", "state.json")
"""One of them is in a folder that `datasets` saved (`save_to_disk`)."""

NOT_HERE = "not here: "
"""What begins the content of data that a plan stands something in for."""


class DataPlace(StrictModel):
    """Where data lie. No field is in a store key: data are their content."""

    path: str | None = Field(None, description="file or folder, instead of the hub's dataset")
    dataset: str | None = Field(None, description="dataset of the hub, owner/name")
    subset: str | None = Field(None, description="its configuration, where it has several")
    split: str = Field("train", description="its split")
    revision: str | None = Field(None, description="its commit, branch or tag (none: the newest, or what is cached)")

    def text(self) -> str:
        """What to call it in a message."""
        return self.path if self.path is not None else f"dataset {self.dataset}"


class DataRequest(StrictModel):
    """Data that a recipe needs: where they lie, the columns read and the setting that names them."""

    place: DataPlace = Field(description="where they lie")
    columns: tuple[str, ...] = Field(description="columns that must be there")
    setting: str = Field(description="dotted key of the recipe's section")
    hint: str = Field("", description="what else could be done where a column is missing")

    @property
    def key(self) -> str:
        """The request as text: its place and columns."""
        return json.dumps([self.place.model_dump(exclude_none=True), self.columns], sort_keys=True)


class FoundData(StrictModel):
    """Data found on this machine: their place, paths absolute, and a hash of their content."""

    place: DataPlace = Field(description="where they lie")
    content: str = Field(description="hash of the file, or of the values of the columns")

    @property
    def is_here(self) -> bool:
        """Whether they are data, and not what stands for some in a plan."""
        return not self.content.startswith(NOT_HERE)


def find_data(request: DataRequest) -> FoundData:
    """The data of a request, their first row read; raises `UserError` saying what is wrong and what to do.

    Raises `MissingDependency` without the package `datasets`.
    """
    place = request.place
    if place.path is not None:
        if not is_there(Path(place.path)):
            raise UserError(
                f"{request.setting}.path {place.path!r} is not there (looked for {Path(place.path).absolute()}); "
                "give the file or folder relative to where the command runs, or its whole path"
            )
        place = place.model_copy(update={"path": str(Path(place.path).resolve())})
    with _readable(place, request.setting):
        there = list(dict.fromkeys(name for row in islice(_open(place), LOOKED_AT_ROWS) for name in row))
        if not there:
            raise UserError(f"{request.setting}: {place.text()} holds no rows")
        missing = [column for column in request.columns if column not in there]
        if missing:
            raise UserError.from_problems(
                f"{request.setting}: {place.text()} lacks what is asked for:",
                [f"there is no column {column!r}; {suggest(column, there)}" for column in missing]
                + [request.hint] * bool(request.hint),
            )
        return FoundData(place=place, content=_content(place, request.columns))


def read_rows(place: DataPlace, columns: Sequence[str], setting: str) -> Iterator[dict[str, Any]]:
    """The rows with at least these columns, in order; raises `UserError` at the first that cannot be read."""
    with _readable(place, setting):
        yield from _open(place, columns)


def has_changed(found: FoundData, columns: Sequence[str]) -> bool:
    """Whether the content is no longer what was found."""
    if found.place.path is not None and not Path(found.place.path).exists():
        return True
    with _readable(found.place, "data"):
        return _content(found.place, columns) != found.content


def _content(place: DataPlace, columns: Sequence[str]) -> str:
    if place.path is not None and Path(place.path).is_file():
        return sha256_of(Path(place.path))
    digest = hashlib.sha256()
    for row in _open(place, columns):
        values = [row.get(column) for column in columns]
        digest.update(json.dumps(values, sort_keys=True, default=str).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def _open(place: DataPlace, columns: Sequence[str] = ()) -> Any:
    """An iterable of rows; where the columns are known before reading, no others are read."""
    files = _json_files(place)
    if files:
        return chain.from_iterable(map(json_rows, files))
    datasets = _datasets()
    opened = _opened(datasets, place)
    known = opened.column_names
    return opened.select_columns(list(columns)) if columns and known and set(columns) <= set(known) else opened


def _opened(datasets: Any, place: DataPlace) -> Any:
    if place.path is None:
        with nullcontext() if hub_answers() else without_hub():
            return datasets.load_dataset(place.dataset, place.subset, split=place.split, revision=place.revision)
    path = Path(place.path)
    if path.is_file():
        builder, options = _reader(path)
        pattern = glob.escape(str(path))
        return datasets.load_dataset(builder, data_files=pattern, split="train", streaming=True, **options)
    if any((path / name).is_file() for name in SAVED_FILES):
        saved = datasets.load_from_disk(str(path))
        if not isinstance(saved, datasets.DatasetDict):
            return saved
        if place.split not in saved:
            raise UserError(f"{path} has no split {place.split!r}; {suggest(place.split, list(saved))}")
        return saved[place.split]
    return datasets.load_dataset(str(path), place.subset, split=place.split, streaming=True)


def _json_files(place: DataPlace) -> list[Path]:
    """The JSON files of a place: itself, or those of a folder that are named after the split, or all of them."""
    path = Path(place.path or "")
    if place.path is None or any((path / name).is_file() for name in SAVED_FILES):
        return []
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    found = [file for file in files if _kind(file) in JSON_ENDS]
    return [file for file in found if path.is_dir() and file.name.startswith(place.split)] or found


def _kind(path: Path) -> str:
    """The end of a file's name that says what it holds."""
    ends = [end.lower() for end in path.name.split(".")[1:]]
    return ends[-2] if len(ends) > 1 and ends[-1] in COMPRESSIONS else ends[-1] if ends else ""


def _reader(path: Path) -> tuple[str, dict[str, Any]]:
    kind = _kind(path)
    if kind not in READERS:
        valid = ", ".join([*JSON_ENDS, *READERS])
        raise UserError(f"{path}: the end of a file's name says what it holds; valid: {valid}")
    return READERS[kind]


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingDependency(f"reading data needs the package datasets; install it with: {INSTALL}") from None
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what goes wrong is in the error
    return datasets


@contextmanager
def _readable(place: DataPlace, setting: str) -> Iterator[None]:
    """What `datasets` raises becomes a `UserError` that names the data, the reason and the next step."""
    try:
        yield
    except (UserError, MissingDependency, GeneratorExit):
        raise
    except StopIteration:
        raise UserError(f"{setting}: {place.text()} holds no rows") from None
    except Exception as error:  # readers of many formats, each with errors of its own
        raise UserError(f"{setting}: {_reason(place, setting, error)}") from error


def _reason(place: DataPlace, setting: str, error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    if place.path is None:
        return (
            f"dataset {place.dataset!r} could not be had from the model hub ({said}). Without the hub: copy a cache "
            "that holds it and set HF_HOME to that folder, or download the dataset elsewhere and give its file or "
            f"folder as {setting}.path"
        )
    return f"{place.path} cannot be read: {said}"
