"""Speech through a trained model: files, folders, mels or a pipe in; 16-bit audio out."""
