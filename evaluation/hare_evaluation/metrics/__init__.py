"""Metrics of generated text: `overlap`, `diversity`, `likelihood` and `learning` are pure functions; `probe` plays
finished sessions again to have texts for them, and `study` measures all runs of a suite.
"""
