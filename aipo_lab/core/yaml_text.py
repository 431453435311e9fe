"""YAML as it is meant: one document, text keys, each key once, and no value that two readers read differently.

PyYAML follows YAML 1.1, in which `010` is eight and `1:30` ninety; YAML 1.2 and most people disagree, so these are
errors that name the line. Dates stay text and `3e-4` is a number. What this module writes it reads back as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]

MAX_DEPTH = 64
MAX_VALUES = 100_000
"""Values of a document with its aliases written out: more is a mistake or an attack."""

_TAG = "tag:yaml.org,2002:"
_AMBIGUOUS_TAG = "tag:aipo-lab:ambiguous"
_AMBIGUOUS = re.compile(
    r"[-+]?(?:0[0-9_]+"  # 010: octal or decimal
    r"|0[oO][0-7_]+|0[bB][01_]+"  # numbers in one version of YAML, text in the other
    r"|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)$"  # 1:30, base 60
)
_SCIENTIFIC = re.compile(r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")
_UNICODE_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_PLAIN_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map"))
_MERGE = _TAG + "merge"

_RESOLVERS: dict[str, list[tuple[str, re.Pattern[str]]]] = {
    first: [one for one in known if one[0] not in (_TAG + "timestamp", _TAG + "value")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _first in "-+0123456789.":
    _RESOLVERS[_first] = [
        (_AMBIGUOUS_TAG, _AMBIGUOUS),
        (_TAG + "float", _SCIENTIFIC),
        *_RESOLVERS.get(_first, []),
    ]


class YamlError(yaml.YAMLError):
    """Text that is not YAML or does not say one thing; `problems` are sentences that begin with the line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _RESOLVERS
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise YamlError([f"line {self.line + 1}: nested more than {MAX_DEPTH} deep"])
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _RESOLVERS

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - every value is written where it stands
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Line ends of Unicode are escaped: written as they are, a parser reads them as ends of the line."""
        style = '"' if _UNICODE_LINE_ENDS.search(data) else None
        return self.represent_scalar(_TAG + "str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)


@dataclass(frozen=True)
class YamlDocument:
    """A document's value, and the line of every key and item in it, by the path of keys that leads there."""

    value: Any
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int | None:
        """The line of `path`, or of the nearest part of the document it stands in; None if that is all of it."""
        return next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)


def load_yaml(text: str) -> YamlDocument:
    """The one document of `text`; raises `YamlError` with every problem."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return YamlDocument(None)
        _check_size(node)
        checker = _Checker(loader)
        checker.check(node, ())
        if checker.problems:
            raise YamlError(list(checker.problems))
        return YamlDocument(loader.construct_document(node), checker.lines)
    except yaml.reader.ReaderError as error:
        raise YamlError([_unreadable(text, error)]) from None
    except yaml.MarkedYAMLError as error:
        raise YamlError([_marked(error)]) from None


def parse_yaml(text: str) -> Any:
    """The value of a YAML document, safely; raises `YamlError`, a `yaml.YAMLError`."""
    return load_yaml(text).value


def dump_yaml(value: Any, width: int = 110) -> str:
    """`value` as a YAML document that `load_yaml` reads back equal."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width)


def decode(content: bytes) -> str:
    """The text of a YAML file, which is UTF-8 with or without a mark; raises `YamlError` naming the line."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise YamlError(["line 1: the file is UTF-16; save it as UTF-8"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise YamlError([f"line {line}: the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"]) from None


class _Checker:
    """Walks a document, takes down its lines, and finds all that does not say one thing."""

    def __init__(self, loader: _Loader) -> None:
        self.loader = loader
        self.lines: dict[KeyPath, int] = {}
        self.problems: dict[str, None] = {}

    def check(self, node: yaml.Node, path: KeyPath) -> None:
        """Check `node`, which stands at `path`."""
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node)
        elif node.tag not in _PLAIN_TAGS:
            self._report(node, f"the tag {_shown_tag(node)} is not supported; leave it out")
        elif isinstance(node, yaml.SequenceNode):
            for position, item in enumerate(node.value):
                self.lines[*path, position] = _line(item)
                self.check(item, (*path, position))
        else:
            self._check_mapping(node, path)

    def _check_mapping(self, node: yaml.Node, path: KeyPath) -> None:
        seen: dict[str, int] = {}
        merges_first = sorted(node.value, key=lambda entry: entry[0].tag != _MERGE)
        for key, value in merges_first:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (_TAG + "str", _MERGE):
                what = (
                    f"{_shown(key)} is read as {_kind(key)}"
                    if isinstance(key, yaml.ScalarNode)
                    else f"this is {_kind(key)}"
                )
                self._report(key, f"a key must be text, but {what}; put it in quotes")
                continue
            if key.value in seen:
                self._report(key, f"the key {key.value!r} is given twice, first on line {seen[key.value]}; keep one")
                continue
            seen[key.value] = _line(key)
            if key.tag == _MERGE:
                self._check_merged(value, path)
            else:
                self.lines[*path, key.value] = _line(key)
                self.check(value, (*path, key.value))

    def _check_merged(self, value: yaml.Node, path: KeyPath) -> None:
        merged = value.value[::-1] if isinstance(value, yaml.SequenceNode) else [value]  # of several the first wins
        for one in merged:
            if isinstance(one, yaml.MappingNode):
                self.check(one, path)
            else:
                self._report(one, f"<< takes a mapping or a list of mappings, not {_kind(one)}")

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        is_number = node.tag in (_TAG + "int", _TAG + "float")
        if node.tag == _AMBIGUOUS_TAG or (is_number and _AMBIGUOUS.match(node.value)):
            self._report(
                node,
                f"{node.value} is one number to some readers of YAML and another, or text, to others; write the "
                f"decimal number without leading zeros, or '{node.value}' in quotes for text",
            )
        elif node.tag not in _PLAIN_TAGS:
            self._report(node, f"the tag {_shown_tag(node)} is not supported; leave it out")
        elif is_number or node.tag == _TAG + "bool":
            try:
                self.loader.construct_object(node)
            except (ValueError, KeyError):
                self._report(node, f"{_shown(node)} is not {_kind(node)}")

    def _report(self, node: yaml.Node, text: str) -> None:
        self.problems[f"line {_line(node)}: {text}"] = None


def _check_size(root: yaml.Node) -> None:
    """Raise `YamlError` for a document that contains itself, or is too large with its aliases written out."""
    measured: dict[int, tuple[int, int]] = {}
    entered: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        if id(node) in measured:
            return measured[id(node)]
        if id(node) in entered:
            raise YamlError([f"line {_line(node)}: the anchor here holds itself; write out what is meant"])
        entered.add(id(node))
        inner = [measure(child) for child in _children(node)]
        size, depth = 1 + sum(size for size, _ in inner), 1 + max((depth for _, depth in inner), default=0)
        if size > MAX_VALUES or depth > MAX_DEPTH:
            what = f"{MAX_VALUES} values" if size > MAX_VALUES else f"{MAX_DEPTH} levels"
            raise YamlError([f"line {_line(node)}: with its aliases written out this is more than {what}"])
        measured[id(node)] = size, depth
        return size, depth

    measure(root)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        yield from (part for entry in node.value for part in entry)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _shown(node: yaml.Node) -> str:
    text = node.value if isinstance(node, yaml.ScalarNode) else _kind(node)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _shown_tag(node: yaml.Node) -> str:
    return str(node.tag).replace(_TAG, "!!")


def _kind(node: yaml.Node) -> str:
    names = {"bool": "a truth value", "int": "a number", "float": "a number", "null": "nothing", "str": "text"}
    names |= {"seq": "a list", "map": "a mapping"}
    return names.get(str(node.tag).removeprefix(_TAG), f"a {_shown_tag(node)}")


def _unreadable(text: str, error: yaml.reader.ReaderError) -> str:
    line = text.count("\n", 0, error.position) + 1
    hint = "; is the file UTF-16? save it as UTF-8" if error.character == 0 else ""
    return f"line {line}: the character U+{error.character:04X} is not allowed in YAML{hint}"


def _marked(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    hint = "; indent with spaces" if "'\\t'" in str(error.problem) else ""
    return f"{place}{', '.join(part for part in (error.context, error.problem) if part)}{hint}"
