"""Looking a corpus over before training on it: ``wg data check``."""
