"""Events of prompts in a database: SQLite beside the program, or PostgreSQL by its URL. Needs the extra ``prompts``.

from hare_agents.prompts.telemetry import Telemetry

telemetry = Telemetry("sqlite:///prompts.db")
telemetry.register(library)
telemetry.record(Impression(prompt="ask-why", context=key))
telemetry.refresh(engine)
"""

from hare_agents._adapter import optional_package

optional_package("sqlalchemy", "SQLAlchemy (for the telemetry of prompts)", "prompts")
optional_package("alembic", "Alembic (for the telemetry of prompts)", "prompts")

from hare_agents.database import StorageError  # noqa: E402
from hare_agents.prompts.telemetry.service import PromptService  # noqa: E402
from hare_agents.prompts.telemetry.store import DuplicateEventError, Telemetry  # noqa: E402

__all__ = ["DuplicateEventError", "PromptService", "StorageError", "Telemetry"]
