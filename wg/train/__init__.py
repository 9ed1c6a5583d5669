"""One run: from a resolved configuration to trained, scored weights."""
