from wg.plan import Plan
from wg.strategies.registry import strategy


@strategy(kind="model")
def interpolated_mel(plan: Plan) -> None:
    """Condition on the mel itself, normalised and interpolated between frames.

    Why: the published way upsamples 80 bands to the audio's rate and gives every group of 8
    samples 640 channels, whose projection is 39% of the paper model's work and most of a small
    model's. The mel changes once a frame: 80 channels at the frame's rate say the same, and as
    interpolation commutes with the projection, that is done once a frame.
    Source: the linear upsampling of neural vocoders (WaveRNN's, for one) in place of WaveGlow's
    transposed convolution; see wg.flow.conditioning.
    Cost: one pass over the training mels for their mean and deviation (data preparation). A
    checkpoint of it is no checkpoint of NVIDIA's classes.
    Fails: nothing is learned of what lies between frames; `frame_rate_conditioning` learns it.
    """
    plan.conditioning = "interpolated"
