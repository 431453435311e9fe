"""Where a base model comes from: the micro world, an asset, a folder on disk, or the model hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.paths import is_there
from aipo_lab.models.fingerprint import fingerprint_folder
from aipo_lab.models.locating import MODEL_FILES, download_model
from aipo_lab.models.model_folder.check import check_folder
from aipo_lab.models.policy import load_tokenizer
from aipo_lab.models.template import ChatSettings, check_has_template, check_renders
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.stages.definition import Runtime


@dataclass(frozen=True)
class BaseModel:
    """A base model found on this machine; without `folder` and `fingerprint` the micro world's, which is trained.

    A `fingerprint` without a folder stands for a model that is not here, in plans (see `foresee_base_model`).
    """

    folder: Path | None = None
    fingerprint: str | None = None

    def config(self, recipe: Recipe) -> dict[str, Any]:
        """The configuration of the `base` stage."""
        if self.fingerprint is None:
            return {"micro": recipe.model.micro.model_dump(mode="json"), "fingerprint": None}
        return {"micro": None, "fingerprint": self.fingerprint}

    def check_speaks(self, recipe: Recipe) -> None:
        """Raise `UserError` if there is no chat template that the recipe could speak to the model with, or it fails."""
        if self.folder is not None:
            chat = recipe.model.chat()
            check_has_template(self.folder, chat)
            _check_renders(self.folder, chat.template, chat.date)

    def runtime(self, runtime: Runtime) -> Runtime:
        """`runtime` with the folder of the model, if there is one: every stage that may open it needs it."""
        return runtime.model_copy(update={"model_folder": str(self.folder) if self.folder else None})


@cache
def _check_renders(folder: Path, template: str | None, date: str) -> None:
    """Once for all trials of a sweep."""
    check_renders(load_tokenizer(folder), str(folder), ChatSettings(template=template, date=date))


def find_base_model(source: str) -> BaseModel:
    """The model that `source` names (see `ModelConfig.source`).

    Raises `UserError` if there is no such model, if it is not a model folder, or if it must be fetched.
    """
    return _find(source, lambda hub_id: download_model(hub_id, "model.source"))


def foresee_base_model(source: str) -> tuple[BaseModel, str | None]:
    """The model for a plan, which needs no weights and downloads none; and why it is not here, if it is not.

    An asset or hub model that is not here is stood in for, by name: keys that follow are those of nothing that will be
    stored. Raises `UserError` as `find_base_model` does for all else.
    """
    from aipo_lab.assets.library import list_assets

    named = source in [asset.name for asset in list_assets()] or _is_hub_id(source)
    try:
        return _find(source, _cached), None
    except UserError as error:
        if not named or is_there(Path(source)):
            raise
        return BaseModel(fingerprint=f"not here: {source}"), str(error)


def _find(source: str, from_hub: Callable[[str], Path]) -> BaseModel:
    from aipo_lab.assets.library import find, list_assets

    if source == "micro":
        return BaseModel()
    assets = [asset.name for asset in list_assets()]
    if source in assets:
        folder = find(source)
    elif is_there(Path(source)):
        folder = Path(source)
    elif _is_hub_id(source):
        folder = from_hub(source)
    else:
        raise UserError(
            f"model.source {source!r} is not a folder that exists (looked for {Path(source).absolute()}), "
            f"nor one of micro, {', '.join(assets)}, "
            "nor a hub id owner/name"
        )
    check_model_folder(folder)
    return BaseModel(folder.resolve(), fingerprint_folder(folder))


def _is_hub_id(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))


def check_model_folder(folder: Path) -> None:
    """Raise `UserError` with every reason why `folder` is not a Hugging Face model folder that can be trained."""
    check_folder(folder, "model.source")


def _cached(source: str) -> Path:
    """The hub model `source` in the local hub cache; raises `UserError` if it is not there."""
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(source, allow_patterns=list(MODEL_FILES), local_files_only=True))
    except (ImportError, OSError, ValueError):
        raise UserError(
            f"model.source {source!r} is not on this machine; a run downloads it from the model hub, or takes a folder "
            "that has it: --set model.source=FOLDER"
        ) from None
