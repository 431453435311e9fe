"""Files of one model-hub repository, checked against the hashes the hub publishes for that revision."""

from __future__ import annotations

import fnmatch
import os
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from aipo_lab.assets.asset import git_blob_id_of, require_hash
from aipo_lab.core.hashing import sha256_of

PROBE_TIMEOUT_S = 4.0


class HubUnreachableError(ConnectionError):
    """The model hub did not answer, or broke off: another source may be tried."""


def download_from_hub(repository: str, folder: Path, patterns: list[str]) -> dict[str, Any]:
    """Download the matching files of the newest revision into `folder`; returns the origin.

    Raises `HubUnreachableError` within `PROBE_TIMEOUT_S` where there is no hub, leaving `folder` empty, and
    `UserError` when a file is not what the hub says it is. `HF_ENDPOINT` names another hub, as everywhere.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    _require_reachable(f"{endpoint}/api/models/{repository}")
    try:
        info = _snapshot(endpoint, repository, folder, patterns)
        hashes = {
            entry.rfilename: _require_published_hash(folder / entry.rfilename, entry)
            for entry in sorted(info.siblings, key=lambda entry: entry.rfilename)
            if any(fnmatch.fnmatch(entry.rfilename, pattern) for pattern in patterns)
        }
    except Exception as error:
        if not _is_network_failure(error):
            raise
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise HubUnreachableError(f"the model hub broke off ({type(error).__name__})") from error
    return {"source": endpoint, "model": repository, "revision": info.sha, "published_hashes": hashes}


def _snapshot(endpoint: str, repository: str, folder: Path, patterns: list[str]) -> Any:
    """Download the files; returns the hub's description of the revision. No credential is sent."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, token=False)
    info = api.model_info(repository, files_metadata=True, timeout=10)
    api.snapshot_download(repository, revision=info.sha, local_dir=folder, allow_patterns=patterns)
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # huggingface_hub's own notes
    return info


def _is_network_failure(error: Exception) -> bool:
    """Whether the hub, not this program, is at fault.

    The HTTP client under huggingface_hub, and with it the exceptions that escape, changed between versions,
    hence the look at the module. A file missing afterwards is a download that was given up silently.
    """
    clients = ("huggingface_hub", "httpx", "httpx2", "httpcore", "requests", "urllib3")
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in clients


def hub_answers() -> bool:
    """Whether the hub says anything at all: libraries that ask it try again for half a minute where it does not."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT, or_refuses=True)


def _require_reachable(url: str) -> None:
    """Raise `HubUnreachableError` unless `url` answers in time."""
    if not _answers(url):
        raise HubUnreachableError("the model hub is not reachable from here")


def _answers(url: str, or_refuses: bool = False) -> bool:
    """Whether `url` answers in time, if only by refusing; the thread bounds a slow name look-up too."""
    answered = threading.Event()

    def probe() -> None:
        try:
            with urllib.request.urlopen(url, timeout=PROBE_TIMEOUT_S):
                answered.set()
        except urllib.error.HTTPError:
            if or_refuses:
                answered.set()
        except (OSError, ValueError):
            return
        finally:
            done.set()

    done = threading.Event()
    threading.Thread(target=probe, daemon=True).start()
    done.wait(PROBE_TIMEOUT_S)
    return answered.is_set()


def _require_published_hash(path: Path, entry: Any) -> str:
    if entry.lfs is not None:
        return require_hash(path, entry.lfs["sha256"], actual=sha256_of(path))
    return require_hash(path, entry.blob_id, actual=git_blob_id_of(path))
