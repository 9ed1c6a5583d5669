"""Audio: the mel spectrogram, reading and writing, corpora, and the store on disk."""
