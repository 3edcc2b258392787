"""Data sets: every one is a list of `Clip`, collated into a `Batch`."""
