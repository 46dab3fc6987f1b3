#!/usr/bin/env python3
"""The dense product by the BLAS under numpy, beside papilio and faer, one thread.

    python3 -m venv venv && venv/bin/pip install numpy                        # brings OpenBLAS
    cargo build --release --features cli
    venv/bin/python benches/against_blas.py --papilio target/release/papilio --n 128,1024 --batch 1,512

For one vector the faster of two layouts of the matrix counts. Prints a Markdown table; `dense` is relative to papilio's
`apply` of the full butterfly (b = 2).
"""
import argparse, json, os, statistics, subprocess, time

for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[name] = "1"
import numpy  # noqa: E402 (after the environment is set)

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--papilio", default="target/release/papilio", help="the command, built with --release")
arguments.add_argument("--n", default="64,128,256,1024,4096")
arguments.add_argument("--batch", default="1,512")
arguments.add_argument("--block", default="2")
arguments.add_argument("--seconds", type=float, default=0.5, help="for each product, and for each case of papilio")
options = arguments.parse_args()


def timed(work):
    """Median seconds of one run."""
    work()
    start = time.perf_counter()
    work()
    runs = max(1, int(1e-3 / (time.perf_counter() - start)))  # turns shorter than what schedulers give away at a time
    times, end = [], time.perf_counter() + options.seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(runs):
            work()
        times.append((time.perf_counter() - start) / runs)
    return statistics.median(times)


def blas(n, batch):
    """Seconds of y = x Aᵀ."""
    random = numpy.random.default_rng(1)
    a, x = (random.standard_normal(shape, dtype=numpy.float32) for shape in ((n, n), (batch, n)))
    y = numpy.empty((batch, n), numpy.float32)
    if batch > 1:
        return timed(lambda: numpy.matmul(x, a.T, out=y))
    row, out, columns = x[0], y[0], numpy.asfortranarray(a)
    return min(timed(lambda: numpy.dot(m, row, out=out)) for m in (a, columns))


command = [options.papilio, "bench", "--json", "--verbs", "apply", "--seconds", str(options.seconds)]
command += ["--n", options.n, "--batch", options.batch, "--block", options.block]
found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
version = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
print(f"{version['name']} {version['version']}, f32, one thread; papilio on {found['isa']}\n")
print("| case | papilio, ns/element | BLAS, ns/element | BLAS, GFLOP/s | BLAS over papilio | faer over papilio |")
print("|---|--:|--:|--:|--:|--:|")
for case in found["cases"]:
    if "does_not_fit" in case:
        continue
    n, batch, ours = case["n"], case["batch"], case["seconds"]["apply"]
    theirs = blas(n, batch)
    per_element = 1e9 / (n * batch)
    faer = case["dense_over_apply"]
    print(
        f"| b={case['block']} m={case['stages']} n={n} batch={batch} | {ours * per_element:.3f} "
        f"| {theirs * per_element:.3f} | {2e-9 * n * n * batch / theirs:.0f} | {theirs / ours:.1f}× "
        f"| {f'{faer:.1f}×' if faer else '–'} |"
    )
