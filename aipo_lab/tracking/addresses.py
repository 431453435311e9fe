"""Tracking URIs: which one a sweep logs to, and how one is shown without the secrets it may carry."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

OWN_DATABASE = "mlflow.db"
HIDDEN = "***"
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY")
_SECRET_CHARS = 3  # shorter ones are in every other word; they are still hidden where they stand in a URI
_USER_INFO = re.compile(r"(\b[a-zA-Z][\w+.-]*://)[^\s/?#'\"]*@")


def resolve_tracking_uri(out: Path, uri: str | None = None) -> str:
    """Where to log: `uri`, else the environment's MLFLOW_TRACKING_URI, else SQLite in the sweep's folder."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or own_uri(out)


def own_uri(out: Path) -> str:
    """The database in the sweep's own output folder."""
    return f"sqlite:///{out.resolve() / OWN_DATABASE}"


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite URI; None for any other."""
    if not re.match(r"sqlite(\+pysqlite)?:///.", uri):
        return None
    return Path(uri.split(":///", 1)[1].split("?", 1)[0]).resolve()


def is_server(uri: str) -> bool:
    """Whether a tracking server, which has pages of its own, stands at the address."""
    return uri.startswith(("http://", "https://"))


def safe_uri(uri: str) -> str:
    """The URI as it may be shown: without user, password and the values of its query.

    A password may hold any character that its database's driver takes, unquoted `/`, `?` and `#` included, so all
    up to the last `@` goes. Paths of local files are not touched.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or (rest.startswith("/") and "+" not in scheme):
        return uri
    _, at, host = rest.rpartition("@")
    host, question, query = host.partition("?")
    shown = "&".join(f"{part.split('=')[0]}={HIDDEN}" if "=" in part else HIDDEN for part in query.split("&"))
    return f"{scheme}://{HIDDEN + at if at else ''}{host}{question}{shown if question else ''}"


def hide_secrets(text: str, uri: str) -> str:
    """`text` (a message of a library, a line of a server's output) without the secrets of `uri`.

    Also without the password and token of MLflow's environment variables, and without the user part of any other URI.
    """
    text = text.replace(uri, safe_uri(uri))
    for secret in sorted(_secrets(uri), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _USER_INFO.sub(rf"\1{HIDDEN}@", text)


def _secrets(uri: str) -> set[str]:
    """Everything in `uri` and the environment that must not be seen, as it may stand in a message."""
    plain = {os.environ[name] for name in _SECRET_VARIABLES if os.environ.get(name)}
    if safe_uri(uri) != uri:
        rest = uri.partition("://")[2]
        user_info, at, host = rest.rpartition("@")
        if at:
            user, colon, password = user_info.partition(":")
            plain |= {user_info, password if colon else user}
        plain |= {part.partition("=")[2] for part in host.partition("?")[2].split("&")}
        plain.add(_parsed_password(uri))
    forms = plain | {unquote(one) for one in plain} | {quote(one, safe="") for one in plain}
    return {one for one in forms | {repr(form)[1:-1] for form in forms} if len(one) >= _SECRET_CHARS}


def _parsed_password(uri: str) -> str:
    try:
        return urlsplit(uri).password or ""
    except ValueError:
        return ""
