"""One file a version. To change the tables, add the next one; see `v1_events_and_aggregates`."""
