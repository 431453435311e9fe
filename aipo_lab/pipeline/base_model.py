"""Where a base model comes from: the micro world, an asset, a folder on disk, or the model hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.paths import is_there
from aipo_lab.models.fingerprint import fingerprint_folder
from aipo_lab.models.model_folder.check import check_folder
from aipo_lab.models.template import check_has_template
from aipo_lab.pipeline.recipe import Recipe
from aipo_lab.stages.definition import Runtime


@dataclass(frozen=True)
class BaseModel:
    """A base model found on this machine; `folder` is None for the micro world's, which is trained."""

    folder: Path | None = None
    fingerprint: str | None = None

    def config(self, recipe: Recipe) -> dict[str, Any]:
        """The configuration of the `base` stage."""
        if self.folder is None:
            return {"micro": recipe.model.micro.model_dump(mode="json"), "fingerprint": None}
        return {"micro": None, "fingerprint": self.fingerprint}

    def check_speaks(self, recipe: Recipe) -> None:
        """Raise `UserError` if there is no chat template that the recipe could speak to the model with."""
        if self.folder is not None:
            check_has_template(self.folder, recipe.model.chat())

    def runtime(self, runtime: Runtime) -> Runtime:
        """`runtime` with the folder of the model, if there is one: every stage that may open it needs it."""
        return runtime.model_copy(update={"model_folder": str(self.folder) if self.folder else None})


def find_base_model(source: str) -> BaseModel:
    """The model that `source` names (see `ModelConfig.source`).

    Raises `UserError` if there is no such model, if it is not a model folder, or if it must be fetched.
    """
    from aipo_lab.assets.library import find, list_assets

    if source == "micro":
        return BaseModel()
    assets = [asset.name for asset in list_assets()]
    if source in assets:
        folder = find(source)
    elif is_there(Path(source)):
        folder = Path(source)
    elif source.count("/") == 1 and not source.startswith((".", "/", "~")):
        folder = _download(source)
    else:
        raise UserError(
            f"model.source {source!r} is not a folder that exists (looked for {Path(source).absolute()}), "
            f"nor one of micro, {', '.join(assets)}, "
            "nor a hub id owner/name"
        )
    check_model_folder(folder)
    return BaseModel(folder.resolve(), fingerprint_folder(folder))


def check_model_folder(folder: Path) -> None:
    """Raise `UserError` with every reason why `folder` is not a Hugging Face model folder that can be trained."""
    check_folder(folder, "model.source")


def _download(source: str) -> Path:
    """The hub model `source` in the local hub cache, downloaded if it is not there."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise MissingDependency("install huggingface_hub: pip install huggingface_hub") from None
    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"model.source {source!r} is not a folder here ({Path(source).absolute()}) and could not be had from the "
            f"model hub: {reason}"
        ) from None
