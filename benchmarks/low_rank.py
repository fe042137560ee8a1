"""Sparse + low rank against the formulas of OATS and of the full-Hessian alternation.

    OMP_NUM_THREADS=1 python -m benchmarks.low_rank [--size 1024 1024 ...] [--output FILE]

Problem: inputs from a power-law factor model (rank in/4) of unit variance plus 0.3 noise,
log-normal channel scales, 1 % outlier channels × 8; 4096 tokens for calibration and 4096 fresh ones
for validation. Weights are Gaussian, or have singular values k^−½. Errors are
‖WX − W'X‖² / ‖WX‖²; seconds are processor time of one thread, everything included that follows the
Hessian. SparseGPT is printed as an anchor: how hard the problem is.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.reference import damped, sparsegpt
from pruners.solvers import relative_error, solve

RANK_SHARE = 0.25


def problem(
    rows: int, columns: int, seed: int = 0, decaying: bool = False, tokens: int = 4096
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weight (rows, columns), and the Hessians of calibration and of fresh inputs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    rank = columns // 4
    mixing = normal(columns, rank) * torch.arange(1.0, rank + 1) ** -0.5
    mixing = mixing / mixing.norm(dim=1, keepdim=True)
    scale = (0.5 * normal(columns)).exp()
    scale[torch.randperm(columns, generator=generator)[: max(1, columns // 100)]] *= 8
    weight = normal(rows, columns)
    if decaying:
        least = min(rows, columns)
        left, right = (torch.linalg.qr(normal(size, least)).Q for size in (rows, columns))
        weight = (left * torch.arange(1.0, least + 1) ** -0.5) @ right.T
        weight = weight / weight.std()
    hessians = []
    for _ in range(2):
        x = (mixing @ normal(rank, tokens) + 0.3 * normal(columns, tokens)) * scale[:, None]
        hessians.append(x @ x.T / tokens)
    return weight, *hessians


def split(shape: torch.Size, density: float) -> tuple[int, int]:
    """Rank and weights of S: r = ⌊κ ρ m n / (m + n)⌋, and the rest of the budget."""
    rows, columns = shape
    rank = int(RANK_SHARE * density * rows * columns / (rows + columns))
    return rank, round(density * rows * columns) - rank * (rows + columns)


def oats(
    weight: torch.Tensor, norms: torch.Tensor, density: float, iterations: int = 80
) -> torch.Tensor:
    """OATS, algorithm 2: truncated SVD and row-wise hard thresholding in turn."""
    rank, _ = split(weight.shape, density)
    kept = int(weight.shape[1] * (1 - RANK_SHARE) * density)
    scaled = weight * norms
    sparse = low = torch.zeros_like(scaled)
    for _ in range(iterations):
        u, s, v = torch.linalg.svd(scaled - sparse, full_matrices=False)
        low = (u[:, :rank] * s[:rank]) @ v[:rank]
        rest = scaled - low
        chosen = rest.abs().topk(kept, dim=1).indices
        sparse = torch.zeros_like(scaled).scatter(1, chosen, rest.gather(1, chosen))
    return (low + sparse) / norms


def alternation(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    density: float,
    iterations: int = 10,
    steps: int = 5,
) -> torch.Tensor:
    """HASSLE-free as published: SparseGPT and conjugate gradients for S, whitened SVD for L.

    The singular value decomposition is two warm-started steps of QR power iteration each time.
    """
    rank, count = split(weight.shape, density)
    h = damped(hessian)
    factor = torch.linalg.cholesky(h)
    sparse = low = torch.zeros_like(weight)
    basis = torch.randn(len(weight), rank, generator=torch.Generator().manual_seed(0)).to(weight)
    for _ in range(iterations):
        white = (weight - sparse) @ factor
        for _ in range(2):
            basis = torch.linalg.qr(white @ (white.T @ basis)).Q
        right = torch.linalg.solve_triangular(factor, basis.T @ white, upper=False, left=False)
        low = basis @ right
        rest = weight - low
        sparse = sparsegpt(rest, hessian, 1 - count / weight.numel())
        mask = (sparse != 0).to(weight.dtype)
        residual = ((rest - sparse) @ h) * mask
        direction = conditioned = residual / h.diagonal()
        strength = (residual * conditioned).sum(1, keepdim=True)
        for _ in range(steps):
            image = (direction @ h) * mask
            length = strength / (direction * image).sum(1, keepdim=True).clamp_min(1e-30)
            sparse = sparse + length * direction
            residual = residual - length * image
            conditioned = residual / h.diagonal()
            following = (residual * conditioned).sum(1, keepdim=True)
            direction = conditioned + following / strength.clamp_min(1e-30) * direction
            strength = following
    return sparse + low


def measure(
    rows: int, columns: int, density: float, decaying: bool, repeats: int, only: list[str]
) -> list[dict]:
    """One problem: a line for each method whose name starts with one of `only`."""
    weight, hessian, fresh = problem(rows, columns, decaying=decaying)
    norms = hessian.diagonal().sqrt()
    tokens = torch.tensor(4096.0)

    def ours(metric: str) -> torch.Tensor:
        statistics = {"hessian": hessian, "norms": norms, "samples": tokens}
        return solve(
            "sparse+low-rank", weight, density, statistics=statistics, metric=metric
        ).weight

    def low_rank(iterations: int) -> torch.Tensor:
        return solve(
            "low-rank",
            weight,
            density,
            statistics={"hessian": hessian, "samples": tokens},
            iterations=iterations,
        ).weight

    methods: dict[str, tuple[Callable[[], torch.Tensor], int]] = {
        "SparseGPT": (lambda: sparsegpt(weight, hessian, 1 - density), repeats),
        "low-rank": (lambda: low_rank(0), repeats),
        "low-rank, 4 subspace iterations": (lambda: low_rank(4), repeats),
        "OATS, 80 SVD": (lambda: oats(weight, norms, density), 1),
        "sparse+low-rank, diagonal": (lambda: ours("diagonal"), repeats),
        "alternation, 10 iterations": (lambda: alternation(weight, hessian, density), repeats),
        "sparse+low-rank, hessian": (lambda: ours("hessian"), repeats),
    }
    lines = []
    for name, (run, times) in methods.items():
        if only and not name.startswith(tuple(only)):
            continue
        seconds = []
        for _ in range(times):
            start = time.process_time()
            found = run()
            seconds.append(time.process_time() - start)
        errors = [relative_error(weight, found, h).item() for h in (hessian, fresh)]
        diagonal = relative_error(weight, found, hessian.diagonal().diag()).item()
        lines.append(
            {
                "rows": rows,
                "columns": columns,
                "spectrum": "decaying" if decaying else "Gaussian",
                "density": density,
                "method": name,
                "calibration": errors[0],
                "validation": errors[1],
                "diagonal": diagonal,
                "seconds": sorted(seconds)[len(seconds) // 2],
            }
        )
        print(
            f"{rows}×{columns} {lines[-1]['spectrum']:8} {density:.0%} {name:32} "
            f"cal {errors[0]:.6f} val {errors[1]:.6f} diag {diagonal:.6f} "
            f"{lines[-1]['seconds']:6.2f} s",
            flush=True,
        )
    return lines


def main() -> None:
    """Every size × spectrum × density."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=2, type=int, action="append", metavar=("OUT", "IN"))
    parser.add_argument("--densities", nargs="*", type=float, default=[0.5, 0.3])
    parser.add_argument("--methods", nargs="*", default=[], help="beginnings of their names")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for rows, columns in arguments.size or [(1024, 1024)]:
        for decaying in (False, True):
            for density in arguments.densities:
                lines += measure(
                    rows, columns, density, decaying, arguments.repeats, arguments.methods
                )
    if arguments.output:
        arguments.output.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
