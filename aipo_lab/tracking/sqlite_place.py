"""MLflow's SQLite file where folders have any name, and its artifacts where the folder was moved or copied to."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from aipo_lab.core.errors import UserError

MEANT_OTHERWISE = "?%"
"""Characters that a database URI takes for something else than part of a path."""

ARTIFACTS = "mlartifacts"


def sqlite_uri(database: Path) -> str:
    """The URI of an SQLite file; one whose path a URI cannot hold is reached by a link in the temporary folder."""
    path = database.resolve()
    if not set(MEANT_OTHERWISE) & set(str(path)):
        return f"sqlite:///{path}"
    return f"sqlite:///{_link_to(path.parent) / path.name}"


def _link_to(folder: Path) -> Path:
    """A link to the folder, always of the same name, in a folder that only this user can write to."""
    links = Path(tempfile.gettempdir()) / f"aipo-lab-links-{os.getuid()}"
    links.mkdir(mode=0o700, exist_ok=True)
    if links.is_symlink() or links.stat().st_uid != os.getuid():
        raise UserError(f"{links} belongs to somebody else; remove it, or set TMPDIR to a folder of your own")
    link = links / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    try:
        link.symlink_to(folder)
    except FileExistsError:
        assert link.resolve() == folder, f"{link} should lead to {folder}"
    return link


def follow_moved_artifacts(folder: Path) -> None:
    """Make the database in `folder` name the artifacts beside it, which it names absolutely, as they lie now.

    Nothing is changed unless they are there. MLflow has no call for this: locations are fixed when made.
    """
    database, here = folder.resolve() / "mlflow.db", (folder.resolve() / ARTIFACTS).as_uri()
    if not database.is_file() or not (folder / ARTIFACTS).is_dir():
        return
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            names = f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE 'file:%/{ARTIFACTS}%'"
            for (location,) in connection.execute(names).fetchall():
                root, _, below = location.rpartition(f"/{ARTIFACTS}")
                if f"{root}/{ARTIFACTS}" != here:
                    moved = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"
                    connection.execute(moved, (here + below, location))
