"""Read models of a repository, shared by the command line and the UI; they never write."""
