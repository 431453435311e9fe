"""The `openai` engine: any server that speaks OpenAI's completions protocol, through the client that judges use.

It serves one set of weights, and must serve the policy's: what it says it loaded, or what `engine.serves` says, is
compared with the policy by content. Every reply is stored at once beside the stage's parts, so that a killed stage pays
for none twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal

from pydantic import Field

from aipo_lab.assets.library import assets_home
from aipo_lab.core.durability import make_folders
from aipo_lab.core.errors import StageFailed, UserError
from aipo_lab.core.seeds import derive_seed
from aipo_lab.generation.engine import ENGINES, Completion, EngineDefinition, EngineSettings, SamplingConfig
from aipo_lab.generation.finishing import NO_ROOM, decoder, finish
from aipo_lab.generation.openai_server import check_server
from aipo_lab.generation.openai_wire import CompletionsRequest, CompletionsWire
from aipo_lab.judging.calls import JudgeReply, Unanswered
from aipo_lab.judging.client import ApiClient
from aipo_lab.judging.endpoint import find_endpoint
from aipo_lab.judging.money import Budget
from aipo_lab.judging.server import ServerSettings
from aipo_lab.judging.store import CallStore
from aipo_lab.models.chat import begin_tokens, encode_response
from aipo_lab.models.outline import policy_outline
from aipo_lab.models.policy import Policy

COMPARED_CHARACTERS = 40


class OpenaiEngineSettings(EngineSettings, ServerSettings):
    """Sampling by a server."""

    who: ClassVar[str] = "engine"
    work: ClassVar[str] = "generation"
    limit_setting: ClassVar[str] = "engine.max_cost_usd"
    computing: ClassVar[frozenset[str]] = frozenset(ServerSettings.model_fields.keys() - {"model"} | {"serves"})

    name: Literal["openai"] = Field("openai", description="engine: openai")
    exchange: Literal["tokens", "text"] = Field(
        "tokens", description="tokens: ids both ways; text: of servers without ids, tokenised here (may differ)"
    )
    serves: str | None = Field(None, min_length=1, description="folder of the model that the server loaded")


class OpenaiEngine:
    """Samples from a server; see `Engine`."""

    def __init__(self, settings: OpenaiEngineSettings, policy: Policy) -> None:
        """Raises `UserError` if key or address are missing, or for a cost limit without a known price."""
        self.settings = settings
        self.policy = policy
        self._endpoint = find_endpoint(settings, "completions")
        self._budget = Budget(settings.max_cost_usd)
        self._own_folder: TemporaryDirectory[str] | None = TemporaryDirectory(prefix="aipo-lab-replies-")
        self._client = self._client_on(Path(self._own_folder.name))

    def check(self, folder: Path) -> None:
        """Raise `UserError` or `StageFailed` unless the server serves the policy in `folder`."""
        check_server(self._client.caller, folder, self.settings.serves)

    def keep_replies_in(self, folder: Path) -> None:
        """See `KeepsReplies.keep_replies_in`."""
        self._client, self._own_folder = self._client_on(folder), None

    def _client_on(self, folder: Path) -> ApiClient[CompletionsRequest]:
        limits = assets_home().parent / "servers"  # shared by all processes of this machine, as the server is
        for one in (folder, limits):
            make_folders(one)
        store = CallStore(folder, {"engine": "openai", "model": self.settings.model})
        wire = CompletionsWire(self.settings.model, self.settings.exchange)
        return ApiClient(self.settings, store, self._budget, self._endpoint, wire, limits)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        n: int,
        sampling: SamplingConfig,
        seed: int,
        stop: Sequence[str] = (),
        also_ends: Sequence[int] = (),
        *,
        logprobs: bool = False,
    ) -> list[list[Completion]]:
        """See `Engine.generate`.

        Raises `StageFailed` if prompts stay without completions, `UserError` for what asking again cannot mend.
        """
        ends = self.policy.end_token_ids | frozenset(also_ends)
        strings = [*stop, *sampling.stop]
        different = n if sampling.temperature else min(n, 1)  # vLLM's server refuses several where all are the same
        requests = {}
        for place, prompt in enumerate(prompts):
            cap = min(sampling.max_new_tokens, self.policy.room_tokens(len(prompt)))
            if cap:
                parameters = self._parameters(sampling, different, cap, ends, strings, logprobs)
                parameters["seed"] = derive_seed(seed, "sample", place)
                requests[place] = self._request(prompt, different, cap, sampling.temperature, parameters)
        outcomes = self._client.ask(list(requests.values()), lambda *_: None)
        failed = [outcome.reason for outcome in outcomes if isinstance(outcome, Unanswered)]
        if failed:
            raise _without_completions(failed, len(requests))
        made = dict(zip(requests, outcomes, strict=True))
        return [
            self._completions(made[place], ends, strings, logprobs) * (n // different)
            if place in made
            else [NO_ROOM] * n
            for place in range(len(prompts))
        ]

    def _request(
        self, prompt: Sequence[int], n: int, cap: int, temperature: float, parameters: dict[str, Any]
    ) -> CompletionsRequest:
        sent: tuple[int, ...] | str = tuple(prompt)
        if self.settings.exchange == "text":
            begin = begin_tokens(self.policy.tokenizer)  # which the server adds to any text
            bare = list(prompt[len(begin) :]) if list(prompt[: len(begin)]) == begin else list(prompt)
            sent = self.policy.tokenizer.decode(bare, clean_up_tokenization_spaces=False)
        return CompletionsRequest(sent, n, cap, temperature, json.dumps(parameters, sort_keys=True))

    def _parameters(
        self,
        sampling: SamplingConfig,
        n: int,
        cap: int,
        ends: frozenset[int],
        strings: Sequence[str],
        logprobs: bool,
    ) -> dict[str, Any]:
        """Everything that decides what is sampled, so that no default of the server does."""
        common: dict[str, Any] = {"n": n, "max_tokens": cap, "top_p": sampling.top_p}
        common |= {"stop": list(strings)} if strings else {}
        common |= {"logprobs": 1} if logprobs else {}
        more = {"top_k": sampling.top_k, "min_p": sampling.min_p, "repetition_penalty": sampling.repetition_penalty}
        if self.settings.exchange == "text":
            neutral = SamplingConfig()
            return common | {name: value for name, value in more.items() if value != getattr(neutral, name)}
        return {
            **common,
            **more,
            "stop_token_ids": sorted(ends),
            "ignore_eos": True,  # which tokens end a completion is said above
            "include_stop_str_in_output": bool(strings),
            "skip_special_tokens": True,
            "add_special_tokens": False,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }

    def _completions(
        self, reply: object, ends: frozenset[int], strings: Sequence[str], logprobs: bool
    ) -> list[Completion]:
        assert isinstance(reply, JudgeReply)
        decode = decoder(self.policy.tokenizer)
        made = []
        for choice in json.loads(reply.text):
            if self.settings.exchange == "text":
                tokens, values = self._tokenised(choice, strings), None
            else:
                tokens, values = choice["token_ids"], choice["logprobs"] if logprobs else None
                self._check_tokens(choice, decode(tokens), ends, strings)
            if logprobs and values is None:
                raise self._client.caller.wire.no_logprobs("the reply holds none of every token")
            made.append(finish(tokens, decode, ends, strings, values, stopped=choice["finish_reason"] == "stop"))
        return made

    def _tokenised(self, choice: Mapping[str, Any], strings: Sequence[str]) -> list[int]:
        """The tokens of a text; with stop strings nobody knows whether it ended or was stopped, so without an end."""
        ended = choice["finish_reason"] == "stop" and not strings
        policy = self.policy
        return encode_response(policy.tokenizer, choice["text"], ended, end_token_id=policy.end_token_id)

    def _check_tokens(
        self, choice: Mapping[str, Any], decoded: str, ends: frozenset[int], strings: Sequence[str]
    ) -> None:
        """Raise `UserError` if the server's tokens say something else here than there, or lack the one that ended."""
        tokens, text = choice["token_ids"], choice["text"] or ""
        server = f"the engine's server {self.settings.model}"
        fits = max(tokens, default=0) < self.policy.vocabulary_size
        if not fits or not _plain(decoded).startswith(_plain(text)[:COMPARED_CHARACTERS]):
            raise UserError(
                f"{server} has another tokenizer than the policy: its tokens for {text[:COMPARED_CHARACTERS]!r} are "
                f"{decoded[:COMPARED_CHARACTERS]!r} here; serve the policy's model"
            )
        if choice["finish_reason"] == "stop" and not strings and not ends & set(tokens):
            raise UserError(
                f"{server} leaves out the token that ended a completion, which training needs: use a server that "
                "returns it (vLLM does), or engine.exchange=text, which adds it"
            )


def _plain(text: str) -> str:
    """The text without white space and halves of characters, which servers write differently."""
    return "".join(text.replace("\ufffd", "").split())


def _open(settings: OpenaiEngineSettings, folder: Path, device: str) -> OpenaiEngine:  # noqa: ARG001
    engine = OpenaiEngine(settings, policy_outline(folder))
    engine.check(folder)
    return engine


ENGINES.add(
    "openai",
    EngineDefinition(settings=OpenaiEngineSettings, open=_open, in_process=False, fixed_weights=True),
)


def _without_completions(reasons: Sequence[str], n_asked: int) -> StageFailed:
    """That prompts stayed without completions, for these reasons, and what to do about it."""
    told = f"{len(reasons)} of {n_asked} prompts got no completions from the engine's server, the first: {reasons[0]}"
    if any(reason.startswith("status 429") for reason in reasons):
        told += "; to ask less at a time lower engine.concurrency, or set engine.requests_per_minute"
    kept = "the other replies are stored: " if len(reasons) < n_asked else ""
    return StageFailed(f"{told}; {kept}run again to ask for what is missing")
