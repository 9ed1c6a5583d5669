"""The packaged demo corpus: one speaker, 16 kHz, about five minutes and one held out."""
