"""A transformer in flax, trained by optax on first names: which of them taught it to spell a given name?"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import circuitsketch as cs
from circuitsketch.zoo import microgpt

LENGTH, LETTERS = 10, 27  # letter 0 begins and ends a name


class Transformer(nn.Module):
    """One block of attention, with biases, layer norms and a tied head."""

    width: int = 12

    @nn.compact
    def __call__(self, letters):
        embed = nn.Embed(LETTERS, self.width)
        x = embed(letters) + self.param("position", nn.initializers.normal(0.1), (LENGTH, self.width))
        h = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(h, h, mask=nn.make_causal_mask(letters))
        x = x + nn.Dense(self.width)(nn.gelu(nn.Dense(2 * self.width)(nn.LayerNorm()(x))))
        return embed.attend(nn.LayerNorm()(x))


def encode(names):
    """Return the names as rows of letters, padded by -1."""
    rows = np.full((len(names), LENGTH + 1), -1)
    for row, name in zip(rows, names, strict=True):
        row[: len(name) + 2] = [0, *(ord(letter) - 96 for letter in name), 0][: LENGTH + 1]
    return rows


def losses(params, rows):
    """Return the mean loss per letter of each name."""
    logits = Transformer().apply({"params": params}, jnp.maximum(rows[:, :-1], 0))
    each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(rows[:, 1:], 0))
    return (each * (rows[:, 1:] >= 0)).sum(1) / (rows[:, 1:] >= 0).sum(1)


def training(names, epochs=4, batch=10, seed=0):
    """Import the usual training of flax and optax, warmed up and decayed."""
    rows, rng = encode(names), np.random.default_rng(seed)
    ids = [part for _ in range(epochs) for part in rng.permutation(len(names)).reshape(-1, batch)]
    adam = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 5, len(ids)), eps=0.0, eps_root=1e-6)

    @jax.jit
    def step(state, batch, keep):
        grads = jax.grad(lambda p: (keep * losses(p, batch)).mean())(state["params"])
        updates, opt = adam.update(grads, state["opt"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt": opt}

    params = Transformer().init(jax.random.PRNGKey(seed), rows[:1, :-1])["params"]
    state = {"params": params, "opt": adam.init(params)}
    return cs.jax.training(step, state, [rows[part] for part in ids], ids, items=names), step, state


def main(name="katherine", count=200, budget=120, shown=6):
    """Rank names by the effect of deleting them; predict a group's deletion, and retrain to check, here and in JAX."""
    names = microgpt.names()[:count]
    run, step, state = training(names)
    loss = cs.jax.function(lambda params, rows: losses(params, rows)[0])
    query = cs.attribute(run, loss, encode([name]), budget=budget, size=(2, count // 20))
    print(query.plan)

    effect = query.influence()
    ranked = np.argsort(-effect.change)
    print(f"The loss on {name!r} is {query.baseline:.3f} nats per letter. Largest changes when one name is deleted:")
    for i in (*ranked[:shown], *ranked[-shown:]):
        print(f"  without {names[i]:<12}{effect.change[i]:+.4f} +- {effect.stderr[i]:.4f}")

    alike = [i for i, other in enumerate(names) if other[:2] == name[:2]]
    prediction = query.without(alike)
    truth = float(losses(run.params(run.retrain(without=alike)), encode([name]))[0])
    w = np.isin(np.arange(count), alike)
    for ids in run.examples:
        state = step(state, encode([names[i] for i in ids]), jnp.asarray(1.0 - w[ids]))
    in_jax = float(losses(state["params"], encode([name]))[0])
    low, high = prediction.interval(0.95)
    print(f"\nWithout all {len(alike)} that begin with {name[:2]!r} ({', '.join(names[i] for i in alike)}):")
    print(f"  predicted {prediction.value:.4f}, 95 % interval {low:.4f} to {high:.4f}")
    for warning in prediction.warnings:
        print(f"  ({warning})")
    print(f"  retrained {truth:.4f}, and by JAX, in single precision, {in_jax:.4f}")
    return [names[i] for i in ranked], effect, prediction, truth, in_jax


if __name__ == "__main__":
    main()
