"""Use-cases: what a DAG, the command line and a test call; one file each."""
