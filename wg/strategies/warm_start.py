from wg.plan import Donor, Plan
from wg.schedule import staircase
from wg.strategies.registry import require, strategy


@strategy(kind="algorithm")
def warm_start(
    plan: Plan,
    n_flows: tuple[int, ...] | None = None,
    until: tuple[float, ...] | None = None,
    donor: str | None = None,
    donor_seconds: float | None = None,
) -> None:
    """Train fewer flows first and insert the rest as identities, without changing the function.

    In the same run: n_flows, such as [2, 4, 6], is a staircase over progress; null is half of
    the flows for the first third. From another run: donor is its directory (or its final/), with
    as many flows or fewer between early outputs; its training time is charged to this run, as
    donor_seconds where its records do not tell.

    Why: a step of half the flows costs half, and most of the early likelihood needs few flows.
    Source: the function-preserving growth of Chen et al. 2016 (Net2Net), applied to flows; new
    flows are identities whose rotation the next one undoes (wg.flow.grow).
    Cost: the donor's time; Adam's moments of new flows start empty.
    Fails: a long first stage is time that the later flows do not get.
    """
    if donor is not None:
        require(n_flows is None, "strategy.warm_start: give n_flows (same run) or donor, not both.")
        require(until is None, "strategy.warm_start: until goes with n_flows, not with donor.")
        plan.donor = Donor(donor, donor_seconds)
        # Claimed and left empty: a second initialisation would destroy the donor's function.
        plan.init = None
        return
    total = plan.base.n_flows
    if n_flows is None:
        first = max(total // 2, plan.base.n_stages)
        require(first < total, f"strategy.warm_start: a model of {total} flows cannot grow.")
        n_flows, until = (first, total), until or (1 / 3,)
    require(len(n_flows) > 0, "strategy.warm_start.n_flows=[] names no number of flows.")
    require(
        n_flows[0] >= plan.base.n_stages,
        f"strategy.warm_start.n_flows starts with {n_flows[0]}, but the model has "
        f"{plan.base.n_stages} stages between early outputs and each needs a flow.",
    )
    require(
        list(n_flows) == sorted(set(n_flows)) and n_flows[-1] == total,
        f"strategy.warm_start.n_flows={list(n_flows)} must increase to the model's {total} flows.",
    )
    plan.n_active_flows = staircase(n_flows, until)
