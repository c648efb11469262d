"""The benchmark of prompts as a module: its plain loop and its writers serve the tests as well."""

import importlib.util
import sys
from pathlib import Path

_path = Path(__file__).parents[1] / "benchmarks/bench_prompts.py"
_spec = importlib.util.spec_from_file_location("bench_prompts", _path)
bench = sys.modules["bench_prompts"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)
