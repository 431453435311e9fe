"""Files at fixed addresses with pinned contents: downloaded, checked against their SHA-256, placed in a folder."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from aipo_lab.assets.asset import PinnedFile, Progress, origin_of, require_hash
from aipo_lab.core.errors import UserError

TIMEOUT_S = 30.0
"""Longest silence of a server; the whole of a large file may take longer."""


def fetching(files: Sequence[PinnedFile]) -> Callable[[Path, Progress], dict[str, Any]]:
    """The `Asset.build` of an asset that is `files` and nothing else."""

    def build(folder: Path, progress: Progress) -> dict[str, Any]:
        return fetch_files(files, folder, progress)

    return build


def fetch_files(files: Sequence[PinnedFile], folder: Path, progress: Progress) -> dict[str, Any]:
    """Download `files` into `folder`, which exists; returns their origin for `Asset.build`.

    Proxies named in the environment (`HTTPS_PROXY`, `NO_PROXY`, …) are used. Raises `UserError`, naming the
    address and what to do, when a file cannot be downloaded or is not the pinned one; the folder is then incomplete.
    """
    for number, file in enumerate(files, 1):
        progress(f"downloading {file.name} ({number} of {len(files)})")
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_content(file.url))
        try:
            require_hash(path, file.sha256)
        except UserError as error:
            raise UserError(f"{error} It came from {file.url}") from None
    return origin_of(files)


def _content(url: str) -> bytes:
    try:
        # An opener of its own: urlopen's shared one keeps the proxies of the process's first call.
        with urllib.request.build_opener().open(url, timeout=TIMEOUT_S) as response:
            body: bytes = response.read()
    except (OSError, HTTPException) as error:  # HTTPException: the server broke off
        reason = error.reason if isinstance(error, urllib.error.URLError) else str(error) or type(error).__name__
        status = f"HTTP {error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        raise UserError(
            f"could not download {url} ({status}{reason}). Check the network and, behind a proxy, HTTPS_PROXY, then "
            "run the command again. For a machine without network: fetch the asset on another machine and copy its "
            "folder, asset.json included, to the place that `aipo-lab assets list` shows"
        ) from None
    return body
