"""WaveGlow: the model and nothing else."""

from wg.flow.config import FlowConfig
from wg.flow.waveglow import FlowOutput, WaveGlow

__all__ = ["FlowConfig", "FlowOutput", "WaveGlow"]
