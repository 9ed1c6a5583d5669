from wg.plan import Plan
from wg.schedule import staircase
from wg.strategies.registry import require, strategy


@strategy(
    kind="algorithm",
    refuses={"warm_start": "a donor fills the flows that growth would wake"},
)
def grow_flows(
    plan: Plan, n_flows: tuple[int, ...] | None = None, until: tuple[float, ...] | None = None
) -> None:
    """Train fewer flows first and insert the rest as identities, without changing the function.

    n_flows, such as [2, 4, 6], is a staircase over progress and until the progress at which each
    stage but the last ends; null is half of the flows for the first third. Early outputs stay
    where the full model has them.

    Why: a step of half the flows costs half, and most of the early likelihood needs few flows.
    Source: the function-preserving growth of Chen et al. 2016 (Net2Net,
    https://arxiv.org/abs/1511.05641), applied to flows; new flows are identities whose rotation
    the next one undoes (wg.flow.grow).
    Cost: Adam's moments of new flows start empty.
    Fails: a long first stage is time that the later flows do not get.
    """
    total = plan.base.n_flows
    if n_flows is None:
        first = max(total // 2, plan.base.n_stages)
        require(first < total, f"strategy.grow_flows: a model of {total} flows cannot grow.")
        n_flows, until = (first, total), until or (1 / 3,)
    require(len(n_flows) > 0, "strategy.grow_flows.n_flows=[] names no number of flows.")
    require(
        n_flows[0] >= plan.base.n_stages,
        f"strategy.grow_flows.n_flows starts with {n_flows[0]}, but the model has "
        f"{plan.base.n_stages} stages between early outputs and each needs a flow.",
    )
    require(
        list(n_flows) == sorted(set(n_flows)) and n_flows[-1] == total,
        f"strategy.grow_flows.n_flows={list(n_flows)} must increase to the model's {total} flows.",
    )
    plan.n_active_flows = staircase(n_flows, until)
