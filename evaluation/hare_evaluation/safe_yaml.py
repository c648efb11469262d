"""YAML from files that a stranger may have written: capped in size, plain values, no aliases, no repeated keys.

Numbers are those of YAML 1.2: ``5e-4`` is one, where YAML 1.1, which PyYAML reads, wants ``5.0e-4``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from hare_gym.errors import ConfigError

MAX_BYTES = 1_000_000


def read_capped(path: Path, source: str, limit: int = MAX_BYTES) -> str:
    """The text of a file of at most ``limit`` bytes; ``source`` is what messages call it.

    Raises:
        ConfigError: It cannot be read, or is larger.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror}.") from error
    if len(content) > limit:
        raise ConfigError(f"{source} is larger than {limit:,} bytes.")
    return content.decode("utf-8", "replace")


def load_yaml(text: str, source: str) -> Any:
    """The value of a YAML text.

    Raises:
        ConfigError: No YAML, an alias, a repeated key, a tag that would build an object, or nested too deeply.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: such as the date 2026-02-31
        raise ConfigError(f"{source} is not YAML that can be used: {error}") from error


def dump_yaml(value: Any) -> str:
    """Plain values as YAML that `load_yaml` reads back, mappings in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118, default_flow_style=None)


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (306 bytes of them can stand for 387 million items) and repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"aliases are not allowed, and there is one: *{event.anchor}")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.YAMLError(f"the key {key.value!r} is given twice, line {node.start_mark.line + 1} on")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes the strings that `_Loader` would read as numbers."""


for _each in (_Loader, _Dumper):
    _each.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )
