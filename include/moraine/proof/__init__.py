"""What a snapshot is held against: facts of its manifest, samples of its files, and the judge of both."""
