"""Pure algorithms: they know bytes, rows and numbers, no store and no clock."""
