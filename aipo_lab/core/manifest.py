"""The manifest of an artifact: what it was made from and what files it has, and whether they are still those.

It is written last, so a folder without one is no artifact. One that cannot be read, or whose files differ, is damage.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from aipo_lab.core.errors import UserError
from aipo_lab.core.hashing import sha256_of

MANIFEST = "manifest.json"

Signature = tuple[tuple[int, int, int, int], ...]
"""Of files: inode, bytes, time of change of content and of anything. Equal signatures mean that nobody wrote."""

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "stage": str,
    "version": int,
    "key": str,
    "config": dict,
    "inputs": dict,
    "summary": dict,
    "files": dict,
    "duration_s": (int, float),
}
_SHA256 = re.compile("[0-9a-f]{64}")


class DamagedManifest(ValueError):
    """The manifest is there but cannot be trusted; the message says why."""


def new_manifest(
    folder: Path,
    identity: Mapping[str, Any],
    summary: Mapping[str, Any],
    duration_s: float,
    versions: Mapping[str, str],
    computed_on: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of the files in `folder`; `identity` is stage, version, key, config and inputs.

    `computed_on` says which devices did the work, where that is known.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        **identity,
        "summary": dict(summary),
        "files": {
            path.relative_to(folder).as_posix(): {"size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in files
        },
        "duration_s": round(duration_s, 3),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        **({} if computed_on is None else {"computed_on": dict(computed_on)}),
        "versions": dict(versions),
    }


def read_manifest(folder: Path, stage: str, key: str) -> dict[str, Any] | None:
    """The checked manifest of the artifact `stage`/`key` in `folder`; None without one.

    Raises `DamagedManifest`, and `UserError` where reading is not permitted.
    """
    try:
        with open(folder / MANIFEST, "rb") as stream:  # noqa: PTH123 - twice as fast, for thousands of look-ups
            manifest = json.loads(stream.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise _not_permitted(folder / MANIFEST) from None
    except OSError as error:
        raise DamagedManifest(f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise DamagedManifest("is not JSON (torn or overwritten)") from None
    _check_form(manifest)
    if (manifest["stage"], manifest["key"]) != (stage, key):
        raise DamagedManifest(f"is that of {manifest['stage']}/{manifest['key']}")
    return dict(manifest)


def _not_permitted(path: Path) -> UserError:
    """What may not be read is not damaged: nothing must be made again for it."""
    return UserError(f"cannot read {path}: permission is denied; permit reading the store's files")


def _check_form(manifest: Any) -> None:
    if not isinstance(manifest, dict):
        raise DamagedManifest("is not a JSON object")
    if missing := [name for name in _FIELDS if name not in manifest]:
        raise DamagedManifest(f"lacks {', '.join(missing)}")
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(manifest[name], kind)]
    if wrong or not math.isfinite(manifest["duration_s"]):
        raise DamagedManifest(f"has no valid {', '.join(wrong) or 'duration_s'}")
    for name, entry in manifest["files"].items():
        if not _is_entry(name, entry):
            raise DamagedManifest(f"has no valid entry for the file {name!r}")


def _is_entry(name: str, entry: Any) -> bool:
    path = PurePosixPath(name)
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("size_bytes"), int)
        and isinstance(entry.get("sha256"), str)
        and _SHA256.fullmatch(entry["sha256"]) is not None
        and not path.is_absolute()
        and ".." not in path.parts
    )


def wrong_sizes(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong by file name, as far as names and sizes tell. Costs a few microseconds a file.

    Raises `UserError` where reading is not permitted.
    """
    problems = {}
    for name, entry in manifest["files"].items():
        try:
            status = os.stat(f"{folder}/{name}")  # noqa: PTH116 - as above
        except PermissionError:
            raise _not_permitted(folder / name) from None
        except OSError as error:
            problems[name] = "is missing" if isinstance(error, FileNotFoundError) else f"is lost ({error.strerror})"
            continue
        if not stat.S_ISREG(status.st_mode):
            problems[name] = "is not a file any more"
        elif status.st_size != entry["size_bytes"]:
            problems[name] = f"has {status.st_size} bytes instead of {entry['size_bytes']}"
    return problems


def wrong_contents(folder: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong by file name; reads every byte. Files that nobody published count too: a model folder is its files.

    Hidden files do not: system programs leave them. Raises `UserError` where reading is not permitted.
    """
    problems = wrong_sizes(folder, manifest)
    for name, entry in manifest["files"].items():
        if name not in problems:
            try:
                found = sha256_of(folder / name)
            except PermissionError:
                raise _not_permitted(folder / name) from None
            except OSError as error:
                problems[name] = f"cannot be read ({error.strerror})"
                continue
            if found != entry["sha256"]:
                problems[name] = "has other content than was published (SHA-256 differs)"
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        name = inside.as_posix()
        known = name == MANIFEST or name in manifest["files"]
        hidden = any(part.startswith(".") for part in inside.parts)
        if not known and not hidden and path.is_file() and not path.is_symlink():
            problems[name] = "was not published with it"
    return problems


def signature_of(folder: Path, manifest: Mapping[str, Any]) -> Signature:
    """Changes whenever the manifest or a file changes; none of them may be missing."""
    statuses = [os.stat(f"{folder}/{name}") for name in (MANIFEST, *manifest["files"])]  # noqa: PTH116 - as above
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in statuses)
