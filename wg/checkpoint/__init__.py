"""Checkpoints: reading anyone's without running them, writing ours and theirs."""
