"""``wg doctor``: what this machine can do, and what to install for the rest."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from rich.markup import escape
from rich.table import Table

from wg.console import console

Row = tuple[str, str]


def show() -> None:
    """Print every finding, one line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in findings():
        table.add_row(name, escape(text))
    console().print(table)


def findings() -> list[Row]:
    """(what, what was found) for every part that a recipe may use."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", lambda: f"{platform.python_version()} on {platform.platform()}"),
        ("PyTorch", _torch),
        ("CPU", _cpu),
        ("GPU", _gpu),
        ("precisions", _precisions),
        ("apex", apex),
        ("TensorRT", lambda: tensorrt("tensorrt", "pip install 'wg[tensorrt]'")),
        ("TensorRT for RTX", lambda: tensorrt("tensorrt_rtx", "pip install 'wg[rtx]'")),
        ("ONNX", lambda: _versions("onnx", "onnxruntime", "onnxscript")),
        ("W&B", wandb_mode),
        ("launchers", launchers),
        ("energy", _energy),
        ("data cache", _cache),
    ]
    rows = []
    for name, check in checks:
        try:
            rows.append((name, check()))
        except Exception as e:  # a broken package is a finding, not a crash
            rows.append((name, f"broken: {type(e).__name__}: {e}"))
    return rows


def _torch() -> str:
    import torch

    return f"{torch.__version__}, CUDA {torch.version.cuda or 'none (CPU build)'}"


def _cpu() -> str:
    import torch

    from wg.train.facts import cpu_name

    return (
        f"{cpu_name()}, {os.cpu_count()} logical cores, "
        f"{torch.backends.cpu.get_cpu_capability()} kernels"
    )


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none: runs train on the CPU, timed in process CPU seconds"
    found = []
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        found.append(f"{p.name}, {p.total_memory / 2**30:.0f} GiB, sm_{p.major}{p.minor}")
    return "; ".join(found)


def _energy() -> str:
    import torch

    from wg.measure.energy import meter

    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    counted = meter([str(torch.cuda.get_device_properties(i).uuid) for i in range(n)]).of
    return counted if counted.startswith("nothing") else f"joules of {counted}"


def _precisions() -> str:
    """Matrix-product rates measured here and now, relative to fp32's: what a strategy of
    arithmetic can hope for on this machine."""
    import torch

    cuda = torch.cuda.is_available()
    device, n = ("cuda", 4096) if cuda else ("cpu", 512)
    a = torch.randn(n, n, device=device)
    inputs = {"fp32": a, "bf16": a.bfloat16(), "fp16": a.half()}
    times: dict[str, list[float]] = {name: [] for name in inputs}
    for i in range(8):
        # Interleaved, and the first round warms up: the machine may be shared.
        for name, x in inputs.items():
            if cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            x @ x
            if cuda:
                torch.cuda.synchronize()
            if i:
                times[name].append(time.perf_counter() - start)
    rates = {name: median(times["fp32"]) / median(t) for name, t in times.items()}
    rate = 2 * n**3 / median(times["fp32"]) / 1e9
    words = [f"{name} {r:.2g}x" for name, r in rates.items() if name != "fp32"]
    return (
        f"fp32 {rate:,.0f} GFLOP/s measured; {', '.join(words)} of that; all give correct results"
    )


def apex() -> str:
    """Which of the two packages named apex is installed."""
    from wg.strategies.apex import find_apex

    found = find_apex()
    if found is None:
        return "none (optional: NVIDIA's apex, built from its source; not `pip install apex`)"
    if not found.nvidia:
        return (
            "an unrelated package of that name (a web toolkit that `pip install apex` brings): "
            "pip uninstall apex"
        )
    amp = "with legacy amp" if found.amp else "without amp (a release since 25.07)"
    kernels = "CUDA kernels built" if found.kernels else "no CUDA kernels built"
    return f"NVIDIA's, {amp}, {kernels}"


def tensorrt(module: str, install: str) -> str:
    if find_spec(module) is None:
        return f"not installed: {install}"
    found = getattr(importlib.import_module(module), "__version__", "?")
    if module == "tensorrt_rtx":
        return f"{found}: builds engines without a GPU"
    return f"{found}: builds engines on this machine's GPU"


def wandb_mode() -> str:
    """Where ``logger=wandb`` would send a run started now."""
    mode = os.environ.get("WANDB_MODE", "offline")
    key = bool(os.environ.get("WANDB_API_KEY")) or _in_netrc()
    login = "logged in" if key else "not logged in (`wandb login` before WANDB_MODE=online)"
    return f"{version('wandb')}, mode {mode}, {login}"


def _in_netrc() -> bool:
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return "api.wandb.ai" in path.read_text()
    except OSError:
        return False


def launchers() -> str:
    """Hydra launchers that are installed, and the extras of the known ones that are not."""
    names = ["basic"]
    missing = []
    for label, package, extra in (
        ("joblib", "hydra_plugins.hydra_joblib_launcher", ""),
        ("submitit (SLURM)", "hydra_plugins.hydra_submitit_launcher", "slurm"),
        ("ray", "hydra_plugins.hydra_ray_launcher", "ray"),
    ):
        try:
            here = find_spec(package) is not None
        except ModuleNotFoundError:
            here = False
        if here:
            names.append(label)
        else:
            missing.append(f"{label}: pip install 'wg[{extra}]'" if extra else label)
    slurm = ", sbatch found" if shutil.which("sbatch") else ""
    return ", ".join(names) + slurm + (f" (not installed: {'; '.join(missing)})" if missing else "")


def _versions(*names: str) -> str:
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    return ", ".join(found)


def _cache() -> str:
    from wg.audio.cache import default_cache_dir

    return f"{default_cache_dir()} (set WG_CACHE_DIR to move it)"
