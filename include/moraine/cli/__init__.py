"""The command line: one file per verb; verbs call steps and print what `report` returns."""
