"""wg: training-speedup experiments for WaveGlow."""

__version__ = "0.1.0"
