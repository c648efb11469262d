"""Submissions, verified runs and ranking. Nothing is built here yet."""
