"""Where a model lies that a setting names: an asset, a folder on this machine, or the model hub's local copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aipo_lab.core.errors import MissingDependency, UserError
from aipo_lab.core.paths import is_there

MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def locate_model(source: str, setting: str, patterns: Sequence[str] = MODEL_FILES) -> Path:
    """The folder of the model `source`, fetched from the hub (only files of `patterns`) where it is `owner/name`.

    Raises `UserError` naming the `setting` if there is no such model.
    """
    from aipo_lab.assets.library import find, list_assets

    assets = [asset.name for asset in list_assets()]
    if source in assets:
        return find(source)
    path = Path(source).expanduser()
    if is_there(path):
        if not path.is_dir():
            raise UserError(f"{setting} {source!r} is a file; give the folder that holds config.json")
        return path.resolve()
    if source.count("/") == 1 and not source.startswith((".", "/", "~")):
        return download_model(source, setting, patterns)
    raise UserError(
        f"{setting} {source!r} is not a folder that exists (looked for {path.absolute()}), nor one of "
        f"{', '.join(assets)}, nor a hub id owner/name"
    )


def download_model(source: str, setting: str, patterns: Sequence[str] = MODEL_FILES) -> Path:
    """The hub model `source` in the local hub cache, downloaded if it is not there; errors as of `locate_model`."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise MissingDependency("install huggingface_hub: pip install huggingface_hub") from None
    try:
        return Path(snapshot_download(source, allow_patterns=list(patterns)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{setting} {source!r} is not a folder here ({Path(source).absolute()}) and could not be had from the "
            f"model hub: {reason}. Without the hub: download the model elsewhere and give its folder as {setting}, or "
            "copy a cache that holds it and set HF_HOME to that folder"
        ) from None
