"""Steps of transformers, convolutional and recurrent networks: flax linen and nnx, equinox, and by hand."""

from __future__ import annotations

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax_cases import ADAM, Case, Data, cross_entropy, double, next_token_loss, optax_case

data = Data(1)
WIDTH, LENGTH, VOCABULARY = 4, 4, 7


class LinenBlock(nn.Module):
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, mask):
        still = self.dropout == 0.0
        h = nn.LayerNorm()(x)
        h = nn.MultiHeadDotProductAttention(num_heads=2, dropout_rate=self.dropout, deterministic=still)(
            h, h, mask=mask
        )
        x = x + nn.Dropout(self.dropout, deterministic=still)(h)
        return x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(2 * WIDTH)(nn.LayerNorm()(x))))


class LinenTransformer(nn.Module):
    dropout: float = 0.0
    rematerialise: bool = False

    @nn.compact
    def __call__(self, t):
        embed = nn.Embed(VOCABULARY, WIDTH)
        x = embed(t) + self.param("position", nn.initializers.normal(0.1), (LENGTH, WIDTH))
        block = nn.remat(LinenBlock) if self.rematerialise else LinenBlock
        x = block(self.dropout)(x, nn.make_causal_mask(t))
        return embed.attend(nn.LayerNorm()(x))


def init(model, *arguments):
    keys = {"params": jax.random.PRNGKey(0), "dropout": jax.random.PRNGKey(1)}
    return double(model.init(keys, *arguments))


def linen(dropout=0.0, rematerialise=False, rule=None):
    model = LinenTransformer(dropout, rematerialise)
    batches = data.tokens()

    def loss(params, batch):
        inputs = batch["t"][:, :-1]
        keys = {"dropout": jax.random.fold_in(jax.random.PRNGKey(7), batch["t"][0, 0])} if dropout else {}
        return next_token_loss(model.apply({"params": params}, inputs, rngs=keys), batch["t"])

    params = init(model, batches[0][0]["t"][:, :-1])["params"]
    return optax_case(loss, params, rule or optax.adam(1e-2, **ADAM), batches)


def linen_dropout_adamw():
    rule = optax.adamw(optax.cosine_decay_schedule(1e-2, 10), **ADAM)
    return linen(0.1, rule=optax.chain(optax.clip_by_global_norm(1.0), rule))


def linen_key_in_state():
    """A typed key in the state, folded with the number of the step."""
    model, rule, batches = LinenTransformer(0.1), optax.adam(1e-2, **ADAM), data.tokens()
    params = init(model, batches[0][0]["t"][:, :-1])["params"]

    def step(state, batch, keep):
        key = jax.random.fold_in(state["key"], state["step"])

        def total(p):
            logits = model.apply({"params": p}, batch["t"][:, :-1], rngs={"dropout": key})
            return (keep * next_token_loss(logits, batch["t"])).mean()

        updates, opt = rule.update(jax.grad(total)(state["params"]), state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "opt": opt, "key": state["key"], "step": state["step"] + 1}

    def loss(params, batch):
        logits = LinenTransformer().apply({"params": params}, batch["t"][:, :-1])
        return next_token_loss(logits, batch["t"])

    state = {"params": params, "opt": rule.init(params), "key": jax.random.key(5), "step": jnp.zeros((), jnp.int32)}
    return Case(step, state, *batches, loss)


def nnx_transformer():
    wide = {"dtype": np.float64, "param_dtype": np.float64, "rngs": nnx.Rngs(0)}

    class Block(nnx.Module):
        def __init__(self):
            self.first, self.second = nnx.LayerNorm(WIDTH, **wide), nnx.RMSNorm(WIDTH, **wide)
            self.attention = nnx.MultiHeadAttention(2, WIDTH, decode=False, **wide)
            self.up, self.down = nnx.Linear(WIDTH, 8, **wide), nnx.Linear(8, WIDTH, **wide)

        def __call__(self, x, mask):
            x = x + self.attention(self.first(x), mask=mask)
            return x + self.down(nnx.silu(self.up(self.second(x))))

    class Model(nnx.Module):
        def __init__(self):
            self.embed, self.block = nnx.Embed(VOCABULARY, WIDTH, **wide), Block()
            self.norm = nnx.LayerNorm(WIDTH, **wide)

        def __call__(self, t):
            return self.embed.attend(self.norm(self.block(self.embed(t), nnx.make_causal_mask(t))))

    graph, params, rest = nnx.split(Model(), nnx.Param, ...)

    def loss(params, batch):
        return next_token_loss(nnx.merge(graph, params, rest)(batch["t"][:, :-1]), batch["t"])

    return optax_case(loss, params, optax.adam(1e-2, **ADAM), data.tokens())


def equinox_transformer():
    """A state that is a module with functions among its leaves, as equinox has it."""

    class Model(eqx.Module):
        embed: eqx.nn.Embedding
        rotary: eqx.nn.RotaryPositionalEmbedding
        attention: eqx.nn.MultiheadAttention
        norm: eqx.nn.LayerNorm
        mlp: eqx.nn.MLP
        head: eqx.nn.Linear

        def __init__(self, key):
            keys = jax.random.split(key, 4)
            self.embed = eqx.nn.Embedding(VOCABULARY, WIDTH, key=keys[0])
            self.rotary = eqx.nn.RotaryPositionalEmbedding(WIDTH)
            self.attention = eqx.nn.MultiheadAttention(2, WIDTH, key=keys[1])
            self.norm = eqx.nn.LayerNorm(WIDTH)
            self.mlp = eqx.nn.MLP(WIDTH, WIDTH, 8, 1, jax.nn.gelu, key=keys[2])
            self.head = eqx.nn.Linear(WIDTH, VOCABULARY, key=keys[3])

        def __call__(self, t):
            x = self.rotary(jax.vmap(self.embed)(t))
            x = x + self.attention(x, x, x, mask=jnp.tril(jnp.ones((LENGTH, LENGTH), bool)))
            return jax.vmap(self.head)(x + jax.vmap(self.mlp)(jax.vmap(self.norm)(x)))

    def loss(model, batch):
        return next_token_loss(jax.vmap(model)(batch["t"][:, :-1]), batch["t"])

    rule = optax.sgd(0.1, momentum=0.9)

    def step(state, batch, keep):
        model, opt = state
        grads = eqx.filter_grad(lambda m: (keep * loss(m, batch)).mean())(model)
        updates, opt = rule.update(grads, opt)
        return eqx.apply_updates(model, updates), opt

    is_array = eqx.is_inexact_array
    model = Model(jax.random.PRNGKey(0))
    model = eqx.combine(double(eqx.filter(model, is_array)), model)
    state = model, rule.init(eqx.filter(model, is_array))
    return Case(step, state, *data.tokens(), loss, lambda state: eqx.filter(state[0], is_array), eqx.filter_jit)


def equinox_perceptron():
    """ReLUs, Adam, and a module whose arrays alone are the state."""
    model = eqx.nn.MLP(5, 3, 6, 2, jax.nn.relu, key=jax.random.PRNGKey(2))
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    loss = cross_entropy(lambda params, x: jax.vmap(eqx.combine(params, rest))(x))
    return optax_case(loss, arrays, optax.adam(1e-2, **ADAM), data.vectors())


def transformer_by_hand():
    """Rotary positions, attention in einsums, a scan over stacked layers, each rematerialised."""
    layers, heads, rng = 2, 2, data.rng
    params = {
        "embed": rng.normal(size=(VOCABULARY, WIDTH)) / 2,
        "layers": {
            "qkv": rng.normal(size=(layers, WIDTH, 3 * WIDTH)) / 2,
            "out": rng.normal(size=(layers, WIDTH, WIDTH)) / 2,
            "up": rng.normal(size=(layers, WIDTH, 8)) / 2,
            "down": rng.normal(size=(layers, 8, WIDTH)) / 3,
            "gain": np.ones((layers, WIDTH)),
        },
    }
    angle = np.arange(LENGTH)[:, None] * (1.0 / 100 ** np.arange(WIDTH // heads // 2))
    causal = np.tril(np.ones((LENGTH, LENGTH), bool))

    def rotate(x):
        a, b = jnp.split(x, 2, -1)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)

    def normalise(x, gain):
        return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * gain

    @jax.checkpoint
    def layer(x, p):
        parts = jnp.split(normalise(x, p["gain"]) @ p["qkv"], 3, -1)
        q, k, v = (part.reshape(*x.shape[:2], heads, -1) for part in parts)
        scores = jnp.einsum("bthd,bshd->bhts", rotate(q), rotate(k))
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e30))
        x = x + jnp.einsum("bhts,bshd->bthd", weights, v).reshape(x.shape) @ p["out"]
        return x + jax.nn.silu(normalise(x, p["gain"]) @ p["up"]) @ p["down"], None

    def loss(params, batch):
        h, _ = lax.scan(layer, params["embed"][batch["t"][:, :-1]], params["layers"])
        return next_token_loss(jnp.einsum("btd,vd->btv", h, params["embed"]), batch["t"])

    return optax_case(loss, params, optax.adam(1e-2, **ADAM), data.tokens())


class LinenCnn(nn.Module):
    pool: str = "avg"
    normalises: bool = False

    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Conv(2, (3, 3))(x)
        if self.normalises:
            x = nn.BatchNorm(use_running_average=not train)(x)
        pool = nn.max_pool if self.pool == "max" else nn.avg_pool
        x = nn.gelu(pool(nn.gelu(x), (2, 2), (2, 2)))
        x = nn.gelu(nn.Conv(3, (2, 2), strides=(2, 2), padding="SAME")(x))
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def cnn(pool):
    model, batches = LinenCnn(pool), data.images()
    loss = cross_entropy(lambda params, x: model.apply({"params": params}, x))
    return optax_case(loss, init(model, batches[0][0]["x"])["params"], optax.sgd(0.1, momentum=0.9), batches)


def cnn_batch_norm():
    model, batches, rule = LinenCnn(normalises=True), data.images(), optax.adam(1e-2, **ADAM)
    variables = init(model, batches[0][0]["x"])

    def step(state, batch, keep):
        def total(p):
            variables = {"params": p, "batch_stats": state["stats"]}
            logits, new = model.apply(variables, batch["x"], mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
            return (keep * losses).mean(), new["batch_stats"]

        grads, stats = jax.grad(total, has_aux=True)(state["params"])
        updates, opt = rule.update(grads, state["opt"], state["params"])
        return {"params": optax.apply_updates(state["params"], updates), "opt": opt, "stats": stats}

    stats = variables["batch_stats"]
    loss = cross_entropy(lambda p, x: model.apply({"params": p, "batch_stats": stats}, x, train=False))
    state = {"params": variables["params"], "opt": rule.init(variables["params"]), "stats": stats}
    return Case(step, state, *batches, loss)


def convolutions():
    """Dilated, depthwise and transposed convolutions."""
    rng, layout = data.rng, ("NHWC", "HWIO", "NHWC")
    params = {
        "dilated": rng.normal(size=(3, 3, 1, 2)) / 3,
        "depthwise": rng.normal(size=(3, 3, 1, 2)) / 3,
        "transposed": rng.normal(size=(2, 2, 2, 2)) / 2,
        "out": rng.normal(size=(2 * 12 * 12, 3)) / 20,
    }
    convolve = functools.partial(lax.conv_general_dilated, dimension_numbers=layout)

    def logits(p, x):
        x = jnp.tanh(convolve(x, p["dilated"], (1, 1), "SAME", rhs_dilation=(2, 2)))
        x = jnp.tanh(convolve(x, p["depthwise"], (1, 1), "SAME", feature_group_count=2))
        x = jnp.tanh(lax.conv_transpose(x, p["transposed"], (2, 2), "SAME", dimension_numbers=layout))
        return x.reshape(x.shape[0], -1) @ p["out"]

    return optax_case(cross_entropy(logits), params, optax.sgd(0.1), data.images())


def lstm_by_scan():
    rng, width = data.rng, 3
    params = {
        "embed": rng.normal(size=(VOCABULARY, 3)),
        "x": rng.normal(size=(3, 4 * width)) / 2,
        "h": rng.normal(size=(width, 4 * width)) / 2,
        "b": np.zeros(4 * width),
        "out": rng.normal(size=(width, VOCABULARY)) / 2,
    }

    def cell(p, carry, x):
        h, s = carry
        i, f, g, o = jnp.split(x @ p["x"] + h @ p["h"] + p["b"], 4, -1)
        s = jax.nn.sigmoid(f) * s + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(s)
        return (h, s), h

    def loss(p, batch):
        inputs = batch["t"][:, :-1]
        zeros = jnp.zeros((inputs.shape[0], width))
        sequence = jnp.swapaxes(p["embed"][inputs], 0, 1)
        hidden = lax.scan(functools.partial(cell, p), (zeros, zeros), sequence)[1]
        return next_token_loss(jnp.swapaxes(hidden, 0, 1) @ p["out"], batch["t"])

    return optax_case(loss, params, optax.rmsprop(1e-2, eps=1e-4, momentum=0.5), data.tokens())


def linen_gru():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, t):
            cell = nn.GRUCell(3, dtype=np.float64, param_dtype=np.float64)
            return nn.Dense(VOCABULARY)(nn.RNN(cell)(nn.Embed(VOCABULARY, 3, param_dtype=np.float64)(t)))

    model, batches = Model(), data.tokens()

    def loss(params, batch):
        return next_token_loss(model.apply({"params": params}, batch["t"][:, :-1]), batch["t"])

    return optax_case(loss, init(model, batches[0][0]["t"][:, :-1])["params"], optax.sgd(0.1), batches)


STEPS = {
    "linen_transformer": linen,
    "linen_remat": lambda: linen(rematerialise=True),
    "cnn_avg_pool": lambda: cnn("avg"),
    "cnn_max_pool": lambda: cnn("max"),
} | {
    make.__name__: make
    for make in (
        *(linen_dropout_adamw, linen_key_in_state, nnx_transformer, equinox_transformer, transformer_by_hand),
        *(cnn_batch_norm, convolutions, lstm_by_scan, linen_gru, equinox_perceptron),
    )
}
