from collections.abc import Iterator

import torch

from wg.audio.store import Store
from wg.flow import WaveGlow
from wg.flow.conditional import fit_log_scale, frame_powers, principal_whitening, start_at_scale
from wg.flow.whitening import group_covariance
from wg.plan import Plan
from wg.strategies.registry import require, strategy


@strategy(kind="algorithm")
def conditional_init(plan: Plan, seconds: float = 120.0) -> None:
    """Start the flow as a whitening whose scales follow the mel, fitted in closed form.

    seconds: training audio that the covariance and the scales are measured on. The first 1x1
    convolution is set to principal components of unit variance; one unit of WN for each channel
    makes log_s of the first two couplings a function of the mel; the upsampling holds frames.

    Why: `whiten_init` knows the average level and spectrum; what the mel says of them at every
    moment is worth more, and most of it is a linear regression between logarithms.
    Source: data-dependent initialisation (Kingma & Dhariwal 2018) of a conditional scale;
    wg.flow.conditional.
    Cost: one pass over the audio and eight regressions (charged as data preparation).
    Fails: under large steps: the scales are sharp functions of the mel, and Muon at its usual
    step size loses them within ten steps; warm up slowly. n_half units of each of two WNs begin
    with zero gain from the audio; in a WN of few channels that is a good share of them.
    """
    require(seconds >= 1, f"strategy.conditional_init.seconds={seconds} must be at least 1.")
    n_samples = round(seconds * plan.base.sampling_rate)

    def start(model: WaveGlow, store: Store) -> None:
        def clips() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for i in store.train:
                mel, audio = store.mel(i), store.audio(i)
                if model.front is not None:
                    n = len(audio) // model.config.n_group * model.config.n_group
                    audio = model.front(mel[None], audio[None, :n])[0][0]
                yield mel, audio

        first = model.active.index(True)
        C = model.config.channels(first)
        whitening = principal_whitening(
            group_covariance((audio for _, audio in clips()), C, n_samples)
        )
        hop = model.config.upsample_stride
        start_at_scale(
            model, whitening, fit_log_scale(*frame_powers(clips(), whitening, hop, n_samples))
        )

    plan.init = start
