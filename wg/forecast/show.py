"""A plan as tables on the terminal, with its assumptions."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from wg.forecast.here import Here
from wg.forecast.memory import TRAFFIC
from wg.forecast.model import LAUNCHES, Forecast
from wg.forecast.run import Arm, Findings


def show(found: Findings, console: Console) -> None:
    """What is computed, what memory holds, and how long that is where."""
    console.print(_runs(found))
    console.print()
    console.print(_memory(found.arms))
    if found.arms[0].forecasts:
        console.print()
        console.print(_hardware(found))
    console.print()
    for line in notes(found):
        console.print(Text(line, style="dim"))


def _table(*columns: str, left: int = 1) -> Table:
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < left else "right", overflow="fold")
    return table


def _runs(found: Findings) -> Table:
    energy = found.here.energy.a_second is not None
    money = found.assumed.price_here is not None
    table = _table(
        "arm", "runs", "parameters", "steps", "audio s", "FLOPs a step", "FLOPs a run",
        f"{found.here.hour}s a run here", *(["kWh a run here"] if energy else []),
        *(["money a run here"] if money else []),
    )  # fmt: skip
    for a in found.arms:
        seconds = a.work.samples / a.work.plan.base.sampling_rate
        table.add_row(
            escape(a.name),
            f"{len(a.seeds)}",
            f"{a.work.parameters / 1e6:,.1f} M",
            f"{a.work.steps:,}",
            f"{seconds:,.0f}",
            f"{a.work.longest.flops:.3g}",
            f"{a.work.flops:.3g}",
            hours(a.seconds_here),
            *(_number(v) for v in (a.kwh_here, a.money_here) if v is not None),
        )
    if found.runs > 1:
        flops = sum(len(a.seeds) * a.work.flops for a in found.arms)
        spent = sum(len(a.seeds) * a.seconds_here for a in found.arms)
        kwh = sum(len(a.seeds) * (a.kwh_here or 0.0) for a in found.arms)
        cost = sum(len(a.seeds) * (a.money_here or 0.0) for a in found.arms)
        table.add_row(
            "all", f"{found.runs}", "", "", "", "", f"{flops:.3g}", hours(spent),
            *([_number(kwh)] if energy else []), *([_number(cost)] if money else []),
        )  # fmt: skip
    return table


def _memory(arms: Sequence[Arm]) -> Table:
    table = _table(
        "arm: MB on one rank", "parameters", "gradients", "optimizer", "average", "activations",
        "passing", "scratch", "peak",
    )  # fmt: skip
    for a in arms:
        m = a.memory
        parts = (
            m.parameters, m.gradients, m.optimizer, m.average, m.kept, m.passing, m.scratch, m.total
        )  # fmt: skip
        table.add_row(escape(a.name), *(f"{b / 1e6:,.0f}" for b in parts))
    return table


def _hardware(found: Findings) -> Table:
    """All runs one after another, on each number of each GPU."""
    many = f", {found.runs} runs" if found.runs > 1 else ""
    columns = [f"GPUs{many}", "batch", "step ms", "products", "memory", "exposed all-reduce",
               "GB on a GPU", "hours", "kWh"]  # fmt: skip
    money = found.assumed.price is not None
    table = _table(*columns, *(["money"] if money else []))
    for i, f in enumerate(found.arms[0].forecasts):
        all_runs = [(len(a.seeds), a.forecasts[i]) for a in found.arms]
        largest = max((g for _, g in all_runs), key=lambda g: g.memory)
        spent = sum(n * g.seconds for n, g in all_runs)
        row = [
            f"{f.gpus} x {f.hardware}",
            _batch([g for _, g in all_runs]),
            f"{1e3 * f.step.total:,.1f}",
            f"{1e3 * f.step.compute:,.1f}",
            f"{1e3 * (f.step.traffic + f.step.weights):,.1f}",
            f"{1e3 * f.step.exposed:,.1f}",
            f"{largest.memory / 1e9:,.1f}" + ("" if largest.fits else " does not fit"),
            hours(spent),
            _number(sum(n * g.kwh for n, g in all_runs)),
        ]
        if money:
            row.append(_number(sum(n * (g.money or 0.0) for n, g in all_runs)))
        table.add_row(*row, style="" if largest.fits else "red")
    return table


def _batch(forecasts: Sequence[Forecast]) -> str:
    first = forecasts[0]
    star = "" if all(f.own_batch for f in forecasts) else " *"
    return f"{first.gpus} x {first.share}{star}"


def hours(seconds: float) -> str:
    """Seconds as hours in a cell."""
    return _number(seconds / 3600)


def _number(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.2f}" if x >= 0.1 else f"{x:.2g}"


def notes(found: Findings) -> list[str]:
    """The assumptions, one a line."""
    h, a = found.here, found.assumed
    of = (
        "measured on steps of "
        + " and ".join(f"{m['segments']} x {m['samples']} samples" for m in h.measured)
        + f", medians of {len(h.measured[0]['all'])}"
        if h.measured
        else "stated; --measure measures it"
    )
    lines = [
        f"Here: {h.device}, {h.threads} threads, {h.gemm_rate / 1e9:,.0f} GFLOP/s of fp32 matrix "
        f"products, of which convolutions reach {h.efficiency:.0%}, and {h.bandwidth / 1e9:.3g} "
        f"GB/s for what the optimizer, weight norm and activations move ({of}). The clock's train "
        "section alone: scoring, loading and what a strategy prepares come on top.",
        _energy_note(h),
        "FLOPs are the model's; what is computed a second time is none.",
        "Memory: weights exact, activations counted on two short segments and extended in "
        "proportion; libraries' work space, fragments and torch.compile's savings are not in it.",
    ]
    if not h.measured and any(arm.work.arithmetic != "fp32" for arm in found.arms):
        lines.append("Here in half precision or TF32 may be faster than this: --measure tells.")
    for arm in found.arms:
        lines += [f"{arm.name}: {note}." for note in arm.memory.notes]
        if arm.work.settings.budget.train_seconds is not None:
            lines.append(
                f"{arm.name}: budget.train_seconds={arm.work.settings.budget.train_seconds:g} may "
                "end it before its planned audio."
            )
    if found.hardware:
        lines += _hardware_notes(found)
    absent = []
    if a.price is None and found.hardware:
        absent.append("--price, of an hour of a named GPU")
    if a.price_here is None:
        absent.append(f"--price-here, of {'a' if h.clock == 'cpu' else 'an'} {h.hour} here")
    if absent:
        lines.append(f"Money: none without {'; or without '.join(absent)}.")
    return lines


def _energy_note(here: Here) -> str:
    """What kWh here are from, or in one phrase why there are none."""
    energy = here.energy
    if energy.a_second is not None:
        unit = "J a CPU second" if here.clock == "cpu" else "W"
        return f"kWh here: {energy.a_second:,.3g} {unit} while steps are made ({energy.of})."
    if energy.metered:
        return f"kWh here: none until --measure reads the meter over a few steps ({energy.of})."
    return f"kWh here: none, for want of a meter ({energy.of})."


def _hardware_notes(found: Findings) -> list[str]:
    a = found.assumed
    arithmetic = ", ".join(sorted({arm.work.arithmetic for arm in found.arms}))
    return [
        f"GPUs: products at {a.efficiency:.0%} of the data sheet's dense peak in {arithmetic} (an "
        f"assumption, not measured on any of them); every byte of activations moved {TRAFFIC} "
        f"times, the optimizer's and weight norm's bytes once; a step is no shorter than "
        f"{LAUNCHES} kernel launches of {a.launch * 1e6:g} us for each flow and layer, unless it "
        "is compiled.",
        "All-reduce: a ring, 2 (n - 1) / n of the gradients' bytes over the slowest link and "
        f"2 (n - 1) hops of {a.latency * 1e6:g} us; up to 8 GPUs NVLink, more {a.network * 8e-9:g} "
        "Gb/s a GPU between hosts (an assumption); hidden behind the backward pass, 2/3 of the "
        "arithmetic, but for the last bucket.",
        "* another batch than the recipe's: as much audio in fewer steps. What a larger batch "
        "learns from it is NOT modelled, and it learns less; quality at equal audio will differ.",
        "kWh: the boards' rated watts all the time, without hosts and cooling; all runs one after "
        "another; the step's columns are the first arm's largest step.",
        *(
            f"{h.name}: {h.peak['fp32'] / 1e12:g} / {h.peak['tf32'] / 1e12:g} / "
            f"{h.peak['bf16'] / 1e12:g} TFLOP/s fp32 / tf32 / bf16, {h.memory / 1e9:g} GB at "
            f"{h.bandwidth / 1e12:g} TB/s, NVLink {h.link / 1e9:g} GB/s each way, {h.watts:g} W. "
            f"{h.source}"
            for h in found.hardware
        ),
    ]
