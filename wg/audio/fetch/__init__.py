"""Fetching public corpora: resumable, checked, whole or absent."""
