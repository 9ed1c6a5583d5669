from wg.plan import Donor, Plan
from wg.strategies.registry import require, strategy


@strategy(kind="algorithm")
def warm_start(
    plan: Plan,
    donor: str | None = None,
    donor_seconds: float | None = None,
    any_mel: bool = False,
) -> None:
    """Start from the weights of another model, with as many flows or fewer.

    donor: a finished run's directory (or its final/), or a folder that `wg convert` made of
    another checkpoint. Flows that the donor lacks begin as identities. Its training time is
    charged to this run, as donor_seconds where its records do not tell. A donor whose mels are
    of another sampling rate or analysis is refused unless any_mel is true.

    Why: what a smaller or an earlier model knows need not be learned again.
    Source: the function-preserving growth of Chen et al. 2016 (Net2Net,
    https://arxiv.org/abs/1511.05641), applied to flows (wg.flow.grow).
    Cost: the donor's time.
    Fails: where the donor's speech is of another rate or another kind.
    """
    require(
        donor_seconds is None or donor_seconds >= 0,
        f"strategy.warm_start.donor_seconds={donor_seconds} must not be negative.",
    )
    plan.donor = Donor(donor or "", donor_seconds, any_mel)
    # Claimed and left empty: a second initialisation would destroy the donor's function.
    plan.init = None
