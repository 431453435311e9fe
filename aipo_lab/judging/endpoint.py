"""Where a server is called: its address and its key, from settings and environment. The key never leaves here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from aipo_lab.core.errors import UserError
from aipo_lab.judging.server import ServerSettings

OPENAI_URL = "https://api.openai.com/v1"
SHORTEST_SECRET = 8
"""Keys shorter than this are placeholders of servers without keys, and may be ordinary words."""


@dataclass(frozen=True)
class Endpoint:
    """The address of chat completions and what to send with each call."""

    url: str
    key_variable: str
    headers: Mapping[str, str] = field(repr=False)
    key: str = field(repr=False)

    @property
    def is_loopback(self) -> bool:
        """Whether the server runs on this machine."""
        return _is_loopback(self.url)

    def redact(self, body: bytes) -> bytes:
        """What a server sent, without the key, which servers like to echo."""
        return body.replace(self.key.encode(), b"[key]") if len(self.key) >= SHORTEST_SECRET else body


def find_endpoint(settings: ServerSettings, path: str = "chat/completions") -> Endpoint:
    """The endpoint of `path` that settings and environment name; one `UserError` says all that is missing.

    A server on this machine needs no key.
    """
    azure = settings.is_azure
    variable = settings.api_key_variable or ("AZURE_OPENAI_API_KEY" if azure else "OPENAI_API_KEY")
    problems: list[str] = []
    url = _azure_url(settings, problems) if azure else _openai_url(settings, path, problems)
    key = os.environ.get(variable, "").strip()
    if not key and not _is_loopback(url):
        problems.append(f"the environment variable {variable} is not set; it must hold the key")
    if not key.isascii() or not key.isprintable() or " " in key:
        problems.append(f"the environment variable {variable} holds characters that no key has")
    if problems:
        raise UserError.from_problems(f"the {settings.who} {settings.model} cannot be called:", problems)
    headers = {"api-key": key} if azure else {"Authorization": f"Bearer {key}"}
    return Endpoint(url, variable, headers if key else {}, key)


def _openai_url(settings: ServerSettings, path: str, problems: list[str]) -> str:
    base = settings.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    if problem := _url_problem(base):
        problems.append(f"base_url (or the environment variable OPENAI_BASE_URL): {problem}")
    return f"{base.rstrip('/')}/{path}"


def _azure_url(settings: ServerSettings, problems: list[str]) -> str:
    """Azure's address of a deployment (Azure OpenAI REST reference, chat completions)."""
    endpoint = settings.base_url or os.environ.get("AZURE_OPENAI_ENDPOINT", "")
    version = os.environ.get("OPENAI_API_VERSION", "")
    if not endpoint:
        problems.append("set base_url or the environment variable AZURE_OPENAI_ENDPOINT: https://NAME.openai.azure.com")
    elif problem := _url_problem(endpoint):
        problems.append(f"base_url (or the environment variable AZURE_OPENAI_ENDPOINT): {problem}")
    if not version:
        problems.append("the environment variable OPENAI_API_VERSION is not set, e.g. 2024-06-01")
    deployment = quote(settings.served_model, safe="")
    path = f"openai/deployments/{deployment}/chat/completions?api-version={quote(version, safe='')}"
    return f"{endpoint.rstrip('/')}/{path}"


def _url_problem(url: str) -> str | None:
    """Why `url` cannot be a server's address, without showing it: it may hold a password by mistake."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return "a server's address is of the form https://host[:port]/path"
    if parts.username or parts.password or parts.query or parts.fragment:
        return "a server's address may hold no user, password or query; the key comes from an environment variable"
    return None


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
