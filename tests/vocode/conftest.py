"""Fixtures of this folder."""

from vocode_fixtures import clips, model_dir

__all__ = ["clips", "model_dir"]
