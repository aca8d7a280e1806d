"""Steps written in JAX: what importing them takes, and what the imported run costs beside the same one in NumPy.

    python bench/frontends.py                  60 names
    python bench/frontends.py --full --write   200 names; updates the table in bench/README.md

microgpt on real names in order, once as the zoo has it and once in JAX with optax.adam, from the same parameters. Both
must train to the same parameters, to 1e-12. Sides are timed in turns, in CPU time of one thread, without compilation.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from compare_jax import one_core
from report import Goal, Report, Row, add_options
from timing import interleaved, middle, ratio, timed
from workloads import directions, training

import circuitsketch as cs
from circuitsketch.zoo import microgpt

LANES = 8  # directions that are pushed together


def normalise(x: Any) -> Any:
    """Divide every row by its root mean square."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + microgpt.NORM_EPSILON)


def attend(x: Any, part: dict[str, Any]) -> Any:
    """Compute causal attention of the rows of x."""
    length, width = x.shape
    split = length, microgpt.HEADS, width // microgpt.HEADS
    queries, keys, values = (jnp.reshape(x @ part[f"attn_w{letter}"].T, split) for letter in "qkv")
    scores = jnp.einsum("qhd,khd->hqk", queries * split[2] ** -0.5, keys)
    attention = jax.nn.softmax(jnp.where(np.tri(length, dtype=bool), scores, microgpt.MASKED))
    return jnp.reshape(jnp.einsum("hqk,khd->qhd", attention, values), (length, width)) @ part["attn_wo"].T


def drop(x: Any, key: Any, rate: float) -> Any:
    """Multiply by a mask that is drawn from a key, if there is one."""
    return x if key is None else x * jax.random.bernoulli(key, 1.0 - rate, x.shape) / (1.0 - rate)


def loss(params: dict[str, Any], tokens: Any, targets: Any, key: Any = None, rate: float = 0.0) -> Any:
    """Compute the mean cross-entropy of one name, of one layer."""
    part = {name.removeprefix("layer0."): value for name, value in params.items()}
    x = normalise(params["wte"][tokens] + params["wpe"][: tokens.shape[0]])
    keys = [None] * 3 if key is None else list(jax.random.split(key, 3))
    x = drop(x, keys[0], rate)
    x = x + drop(attend(normalise(x), part), keys[1], rate)
    x = x + drop(jax.nn.gelu(normalise(x) @ part["mlp_fc1"].T, approximate=False) @ part["mlp_fc2"].T, keys[2], rate)
    return optax.softmax_cross_entropy_with_integer_labels(x @ params["lm_head"].T, targets).mean()


def head_norm(params: dict[str, Any]) -> Any:
    """Measure the last layer."""
    return np.square(params["lm_head"]).sum()


def imported(native: cs.Training, dropout: float = 0.0) -> cs.Training:
    """Import the same training from JAX, with or without dropout of what the attention and the layers return."""

    def rate(count: Any) -> Any:
        return microgpt.LEARNING_RATE * (1.0 - count.astype(float) / native.steps)

    adam = optax.adam(rate, b1=0.85, b2=0.99, eps=0.0, eps_root=1e-3)

    def step(state: Any, batch: Any, keep: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(0), state["opt"][0].count) if dropout else None
        grads = jax.grad(lambda p: keep[0] * loss(p, *batch, key, dropout))(state["params"])
        updates, opt = adam.update(grads, state["opt"])
        return {"params": optax.apply_updates(state["params"], updates), "opt": opt}

    params = {name: jnp.asarray(value) for name, value in native.state["params"].items()}
    batches = [(np.int64(tokens), np.int64(targets)) for tokens, targets, _ in native.batches]
    return cs.jax.training(step, {"params": params, "opt": adam.init(params)}, batches, native.examples)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure what the options say; returns the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    add_options(parser)
    options = parser.parse_args(arguments)
    steps = options.steps or (200 if options.full else 60)
    jax.config.update("jax_enable_x64", True)
    report = Report("frontends", options, {"steps": steps, "repeats": options.repeats})
    with one_core():
        native = training("microgpt", steps)
        one_length = cs.Training.__new__(cs.Training)
        one_length.__dict__ = native.__dict__ | {"batches": native.batches[:1], "examples": native.examples[:1]}
        imported(one_length)  # imports and warms JAX
        one = timed(lambda: imported(one_length))
        report.add(Row("importing one step, CPU s", "import_s", one.cpu, "{:.2f}", Goal("<=", 2.0)))
        imported(one_length, dropout=0.1)
        one = timed(lambda: imported(one_length, dropout=0.1))
        report.add(
            Row("importing one step with dropout, CPU s", "import_dropout_s", one.cpu, "{:.2f}", Goal("<=", 2.0))
        )
        other: list[cs.Training] = []
        every = timed(lambda: other.append(imported(native)))
        note = f"{len(native.circuits)} lengths of names"
        report.add(Row(f"importing {steps} steps, CPU s", "import_all_s", every.cpu, "{:.2f}", note=note))

        mine, theirs = (run.train()["params"] for run in (native, other[0]))
        difference = max(float(np.abs(mine[name] - theirs[name]).max()) for name in mine)
        assert difference < 1e-12, difference
        report.add(Row("largest difference of the trained parameters", "difference", difference, "{:.0e}"))
        report.add(Row("size(A), JAX over NumPy", "size", other[0].size / native.size, "{:.3f}", Goal("<=", 1.1)))
        rows = directions(LANES, native.n)
        sides = {"numpy": native, "jax": other[0]}
        for what, key, call in (
            ("plain training", "plain", lambda run: run.train()),
            (f"pushing {LANES} directions, order 3", "push", lambda run: cs.push(run, rows, order=3, threads=1)),
            ("a metagradient", "reverse", lambda run: cs.metagradient(run, head_norm)),
        ):
            found = interleaved({name: partial(call, run) for name, run in sides.items()}, options.repeats)
            value = ratio(found["jax"], found["numpy"])
            note = f"{1e3 * middle(found['jax']):.3g} against {1e3 * middle(found['numpy']):.3g} ms"
            report.add(Row(f"{what}, JAX over NumPy", key, value, "{:.2f}", Goal("<=", 1.1), note))
    return report.finish()


if __name__ == "__main__":
    main()
