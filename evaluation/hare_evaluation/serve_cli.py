"""The ``hare serve`` command: HARE behind HTTP."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hare_agents.service.config import ServiceConfig
    from hare_agents.service.recommender import NewItem

app = typer.Typer(invoke_without_command=True, help="HARE behind HTTP: recommend, feedback, users, pool.")


@app.callback()
def serve_command(
    database: Annotated[
        str, typer.Option(help="sqlite:///path or postgresql://user@host/name.")
    ] = "sqlite:///hare.db",
    pool: Annotated[
        Path | None, typer.Option(help="JSONL of the first items: id, and vector or text. For the first start.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML of settings (hare_agents.service.config).")] = None,
    dim: Annotated[int | None, typer.Option(min=1, max=512, help="Length of queries and items.")] = None,
    encoder: Annotated[str | None, typer.Option(help="What embeds texts: minilm, a folder, a hub's id.")] = None,
    host: Annotated[str, typer.Option(help="Where to listen. Beyond this machine: set HARE_API_KEY.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8710,
) -> None:
    """Serve HARE. The API key, if any, is read from the environment variable HARE_API_KEY."""
    from hare_gym.errors import ConfigError, MissingPackageError

    try:
        import uvicorn

        from hare_agents.service.app import create_app
        from hare_agents.service.recommender import Recommender
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{error.name} is not installed. Install what serving needs with: pip install 'hare-gym[serve]'"
        ) from error
    key = os.environ.get("HARE_API_KEY") or None
    if key is None and host not in {"127.0.0.1", "::1", "localhost"}:
        raise ConfigError(
            f"Whoever reaches {host} could read and delete users. Set HARE_API_KEY to a long secret first."
        )
    settings = _settings(config, dim, encoder)
    recommender = Recommender(database, settings, _items(pool) if pool else ())
    typer.echo(
        f"{len(recommender.hare.pool.ids)} items, {recommender.hare.t} rewards learned; http://{host}:{port}/docs"
    )
    uvicorn.run(create_app(recommender, key), host=host, port=port, log_level="warning", timeout_graceful_shutdown=10)


def _settings(path: Path | None, dim: int | None, encoder: str | None) -> ServiceConfig:
    from pydantic import ValidationError

    from hare_agents.service.config import ServiceConfig
    from hare_evaluation.safe_yaml import load_yaml
    from hare_gym.errors import ConfigError

    given = {} if path is None else load_yaml(path.read_text(encoding="utf-8"), str(path))
    given |= {name: value for name, value in (("dim", dim), ("encoder", encoder)) if value is not None}
    try:
        return ServiceConfig(**given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise ConfigError(f"{path or 'settings'}: {where}: {first['msg']}.") from error


def _items(path: Path) -> list[NewItem]:
    from hare_agents.service.recommender import NewItem
    from hare_gym.errors import DataError

    items = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The pool {str(path)!r} cannot be read: {error}.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            items.append(NewItem(str(row["id"]), row.get("vector"), row.get("text")))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(
                f'{path}:{number}: not {{"id": ..., "vector": [...]}} or {{"id": ..., "text": ...}}.'
            ) from error
    return items
