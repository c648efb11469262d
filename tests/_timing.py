"""That hostile input costs little. How fast things are is measured under ``benchmarks/``."""

import gc
import time

LIMIT = 3.0  # CPU seconds; what grows with the square of a long text takes many times that


def quickly(work, *args):
    """What ``work(*args)`` gives, soon; without the collector, whose pauses are made by the tests before."""
    collecting = gc.isenabled()
    gc.disable()
    start = time.process_time()
    try:
        found = work(*args)
        spent = time.process_time() - start
    finally:
        if collecting:
            gc.enable()
    assert spent < LIMIT
    return found
