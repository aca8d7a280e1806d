"""Steps of small perceptrons: activations, optimisers, transformations of functions, control flow, what is known."""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax_cases import ADAM, BATCH, Case, Data, cross_entropy, double, optax_case, perceptron

data = Data()


def mlp_sgd_momentum():
    return optax_case(
        cross_entropy(perceptron(jax.nn.relu)),
        data.layers(),
        optax.sgd(0.1, momentum=0.9, nesterov=True),
        data.vectors(),
    )


def mlp_adam():
    return optax_case(cross_entropy(perceptron(jax.nn.gelu)), data.layers(), optax.adam(1e-2, **ADAM), data.vectors())


def mlp_adamw_schedule_clip():
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1e-2, 2, 10)
    rule = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.1, **ADAM))
    return optax_case(cross_entropy(perceptron(jax.nn.silu)), data.layers(), rule, data.vectors())


def mlp_activations():
    activations = [
        *(jax.nn.tanh, jax.nn.softplus, functools.partial(jax.nn.gelu, approximate=False), jax.nn.elu),
        *(jax.nn.leaky_relu, jax.nn.sigmoid, jax.nn.log_sigmoid, jax.nn.mish, jax.nn.selu, jax.nn.hard_swish),
        *(jax.nn.celu, jax.nn.squareplus),
    ]

    def logits(layers, x):
        h = x @ layers[0]["w"]
        h = sum(activate(h + 0.1 * i) for i, activate in enumerate(activations))
        return h @ layers[1]["w"] @ layers[2]["w"]

    return optax_case(cross_entropy(logits), data.layers(), optax.sgd(0.05), data.vectors())


def mlp_checkpoint():
    block = jax.checkpoint(lambda x, layer: jax.nn.gelu(x @ layer["w"] + layer["b"]))

    def logits(layers, x):
        for layer in layers[:-1]:
            x = block(x, layer)
        return x @ layers[-1]["w"] + layers[-1]["b"]

    return optax_case(cross_entropy(logits), data.layers(), optax.sgd(0.1), data.vectors())


def loss_of_one(layers, x, y):
    return -jax.nn.log_softmax(perceptron(jnp.tanh)(layers, x))[y]


def losses_by_vmap(layers, batch):
    return jax.vmap(loss_of_one, (None, 0, 0))(layers, batch["x"], batch["y"])


def vmap_per_example():
    return optax_case(losses_by_vmap, data.layers(), optax.sgd(0.1), data.vectors())


def dp_sgd():
    """Gradients per example, each clipped, with noise from a key in the state."""

    def step(state, batch, keep):
        key, drawn = jax.random.split(state["key"])
        grads = jax.vmap(jax.grad(loss_of_one), (None, 0, 0))(state["params"], batch["x"], batch["y"])
        leaves, tree = jax.tree_util.tree_flatten(grads)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf.reshape(BATCH, -1)), 1) for leaf in leaves))
        scale = keep * jnp.minimum(1.0, 1.0 / norm)
        keys = jax.random.split(drawn, len(leaves))
        noisy = [
            jnp.tensordot(scale, leaf, 1) / BATCH + 0.01 * jax.random.normal(k, leaf.shape[1:])
            for leaf, k in zip(leaves, keys, strict=True)
        ]
        grads = jax.tree_util.tree_unflatten(tree, noisy)
        return {"params": jax.tree_util.tree_map(lambda p, g: p - 0.1 * g, state["params"], grads), "key": key}

    return Case(step, {"params": double(data.layers()), "key": jax.random.PRNGKey(3)}, *data.vectors(), losses_by_vmap)


def custom_rules():
    @jax.custom_jvp
    def log_of_one_plus_exp(x):
        return jnp.log1p(jnp.exp(x))

    log_of_one_plus_exp.defjvp(lambda p, t: (log_of_one_plus_exp(p[0]), jax.nn.sigmoid(p[0]) * t[0]))

    @jax.custom_vjp
    def straight_through(x):
        return jnp.tanh(x)

    straight_through.defvjp(lambda x: (jnp.tanh(x), None), lambda _, ct: (0.7 * ct,))

    def logits(layers, x):
        return straight_through(log_of_one_plus_exp(x @ layers[0]["w"])) @ layers[1]["w"] @ layers[2]["w"]

    return optax_case(cross_entropy(logits), data.layers(), optax.sgd(0.1), data.vectors())


def step_dependent_cond():
    """The rate halves by lax.cond on a counter, every second step skips the update; a loop, a moving average."""
    loss = cross_entropy(perceptron(jnp.tanh))
    tree_map = jax.tree_util.tree_map

    def step(state, batch, keep):
        grads = jax.grad(lambda p: (keep * loss(p, batch)).mean())(state["params"])
        rate = lax.cond(state["t"] > 2, lambda: 0.05, lambda: 0.1)
        params = lax.cond(
            state["t"] % 2 == 1, lambda p: p, lambda p: tree_map(lambda a, g: a - rate * g, p, grads), state["params"]
        )
        params = lax.fori_loop(0, 3, lambda i, p: tree_map(lambda a: a * (1.0 - 0.001 * i), p), params)
        mean = tree_map(lambda a, c: 0.9 * a + 0.1 * c, state["mean"], params)
        return {"params": params, "mean": mean, "t": state["t"] + 1}

    params = double(data.layers())
    return Case(step, {"params": params, "mean": params, "t": jnp.zeros((), jnp.int32)}, *data.vectors(), loss)


def sorted_data():
    """Sorts, ranks and maxima of data, and not of anything that weights reach."""

    def loss(layers, batch):
        order = jnp.argsort(batch["x"][:, 0])
        x, y = batch["x"][order], batch["y"][order]
        weight = lax.top_k(jnp.abs(x), 2)[0].sum(-1)
        logits = perceptron(jnp.tanh)(layers, x) + jax.nn.one_hot(jnp.argmax(x[:, :3], -1), 3)
        values = weight * optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return jnp.zeros(BATCH, values.dtype).at[order].set(values)

    return optax_case(loss, data.layers(), optax.sgd(0.1), data.vectors())


def optimiser(make_rule):
    """Return the function that makes the training of a perceptron by a rule."""
    return lambda: optax_case(cross_entropy(perceptron(jnp.tanh)), data.layers(), make_rule(), data.vectors())


def lion():
    """Its steps are signs, so that the weights' small changes are in its momentum alone: that is compared as well."""
    case = optimiser(lambda: optax.lion(1e-2))()
    return replace(case, params=lambda state: {"params": state["params"], "momentum": state["opt"][0].mu})


STEPS = {
    make.__name__: make
    for make in (
        *(mlp_sgd_momentum, mlp_adam, mlp_adamw_schedule_clip, mlp_activations, mlp_checkpoint, vmap_per_example),
        *(dp_sgd, custom_rules, step_dependent_cond, sorted_data),
    )
}
STEPS |= {
    "optax_adagrad": optimiser(lambda: optax.adagrad(0.1, eps=1e-4)),
    "optax_lamb": optimiser(lambda: optax.lamb(1e-2, **ADAM)),
    "optax_nadam": optimiser(lambda: optax.nadam(1e-2, **ADAM)),
    "optax_lion": lion,
    "optax_adafactor": optimiser(lambda: optax.adafactor(1e-2, min_dim_size_to_factor=2)),
    "optax_yogi_ema": optimiser(lambda: optax.chain(optax.scale_by_yogi(eps=1e-3), optax.scale(-1e-2), optax.ema(0.9))),
    "optax_adam_eps_outside": optimiser(lambda: optax.adam(1e-2)),
    "optax_schedule_free": optimiser(lambda: optax.contrib.schedule_free_sgd(0.1)),
    "optax_multi_steps": optimiser(lambda: optax.MultiSteps(optax.adam(1e-2, **ADAM), 2)),
}
if hasattr(optax.contrib, "muon"):  # newer than the oldest optax
    STEPS["optax_muon"] = optimiser(lambda: optax.contrib.muon(1e-2))
