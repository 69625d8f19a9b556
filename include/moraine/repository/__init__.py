"""The repository: the only code that knows object keys and what they mean."""
