"""Evaluation: one loop from a specification to a record, and from records to statistics and reports."""
