"""A small, realistic data lake to try Moraine on: the same bytes for the same seed. Knows nothing of backups."""
