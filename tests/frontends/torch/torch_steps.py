"""PyTorch training steps, as pure functions (state, batch, keep) -> state in double precision, and single functions."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call, grad

torch.set_num_threads(1)  # these tensors are small: threads would only wait for each other
BATCH = 6


def sgd(state, grads, rate=0.1, momentum=0.9):
    velocity = {name: momentum * state["v"][name] + grads[name] for name in grads}
    return {"params": {name: state["params"][name] - rate * velocity[name] for name in grads}, "v": velocity}


def adam(state, grads, rate=1e-2, one=0.9, two=0.999, eps_root=1e-6):
    t = state["t"] + 1
    m = {k: one * state["m"][k] + (1 - one) * grads[k] for k in grads}
    v = {k: two * state["v"][k] + (1 - two) * grads[k] ** 2 for k in grads}
    corrected = {k: torch.sqrt(v[k] / (1 - two**t) + eps_root) for k in grads}
    params = {k: state["params"][k] - rate * (m[k] / (1 - one**t)) / corrected[k] for k in grads}
    return {"params": params, "m": m, "v": v, "t": t}


def start(params, rule):
    zeros = lambda: {name: torch.zeros_like(value) for name, value in params.items()}  # noqa: E731
    if rule is sgd:
        return {"params": params, "v": zeros()}
    return {"params": params, "m": zeros(), "v": zeros(), "t": torch.zeros((), dtype=torch.int64)}


def training_step(model, loss, rule):
    """The step of a module, and its first state."""
    buffers = dict(model.named_buffers())

    def step(state, batch, keep):
        def total(params):
            return (keep * loss(lambda x: functional_call(model, {**buffers, **params}, (x,)), *batch)).mean()

        return rule(state, grad(total)(state["params"]))

    return step, start({name: value.detach().clone() for name, value in model.named_parameters()}, rule)


def cross_entropy(f, x, y):
    return F.cross_entropy(f(x), y, reduction="none")


def language(f, tokens):
    return F.cross_entropy(f(tokens[:, :-1]).transpose(1, 2), tokens[:, 1:], reduction="none").mean(-1)


def vectors(count):
    return torch.randn(count, 5), torch.randint(0, 3, (count,))


def images(count):
    return torch.randn(count, 1, 8, 8), torch.randint(0, 3, (count,))


def tokens(count):
    return (torch.randint(0, 11, (count, 7)),)


class Attention(nn.Module):
    def __init__(self, width=8, heads=2):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (a.view(b, t, self.heads, d // self.heads).transpose(1, 2) for a in self.qkv(x).split(d, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class Gpt(nn.Module):
    def __init__(self, width=8, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(11, width)
        self.position = nn.Parameter(torch.randn(6, width) / 4)
        self.norm, self.attention, self.last = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, t):
        x = self.dropout(self.embedding(t) + self.position)
        x = x + self.attention(self.norm(x))
        x = x + self.dropout(self.mlp(x))
        return self.last(x) @ self.embedding.weight.T


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, activation="gelu")

    def forward(self, t):
        mask = nn.Transformer.generate_square_subsequent_mask(6)
        return self.out(self.layer(self.embedding(t), src_mask=mask, is_causal=True))


class Cnn(nn.Module):
    def __init__(self, pool, norm):
        super().__init__()
        self.first, self.norm, self.pool = nn.Conv2d(1, 4, 3, padding=1), norm, pool
        self.second, self.out = nn.Conv2d(4, 6, 3, stride=2), nn.Linear(6, 3)

    def forward(self, x):
        x = self.pool(F.gelu(self.norm(self.first(x))))
        return self.out(F.gelu(self.second(x)).flatten(1))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(11, 4), nn.Linear(5, 11)
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, t):
        return self.out(self.lstm(self.embedding(t))[0])


def mlp(*between):
    layers = [nn.Linear(5, 7)]
    for layer in between:
        layers += [layer, nn.Linear(7, 7)]
    return nn.Sequential(*layers[:-1], nn.Linear(7, 3))


def activations():
    return mlp(nn.SiLU(), nn.Softplus(), nn.ELU(), nn.LeakyReLU(), nn.Tanh(), nn.LogSigmoid(), nn.LayerNorm(7))


def batch_norm():
    return nn.BatchNorm2d(4, track_running_stats=False)


# By name: the module, the loss, the optimiser and the data.
STEPS = {
    "mlp, relu, sgd": lambda: (mlp(nn.ReLU(), nn.ReLU()), cross_entropy, sgd, vectors),
    "mlp, gelu, adam": lambda: (mlp(nn.GELU(), nn.GELU(approximate="tanh")), cross_entropy, adam, vectors),
    "activations and layer norm": lambda: (activations(), cross_entropy, sgd, vectors),
    "gpt, sdpa, tied head, adam": lambda: (Gpt(), language, adam, tokens),
    "gpt, dropout": lambda: (Gpt(dropout=0.3), language, adam, tokens),
    "encoder layer": lambda: (Encoder(), language, sgd, tokens),
    "cnn, average pool": lambda: (Cnn(nn.AvgPool2d(2), nn.Identity()), cross_entropy, sgd, images),
    "cnn, max pool, batch norm": lambda: (Cnn(nn.MaxPool2d(2), batch_norm()), cross_entropy, adam, images),
    "cnn, group norm, padded pool": lambda: (
        Cnn(nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.GroupNorm(2, 4)), cross_entropy, sgd, images
    ),
    "lstm": lambda: (Lstm(), language, sgd, tokens),
}  # fmt: skip

# Functions of two float tensors (3, 4), beside those in the steps.
ELEMENTWISE = {
    "expressions": lambda x, y: (x - 2.0 * y) / (1.5 + y * y) + (3.0 - x) ** 2 + torch.rsub(x, 1.0) + 2.0**x,
    "exponentials": lambda x, y: torch.exp(x) + torch.expm1(y) + torch.exp2(x) + torch.logaddexp(x, y),
    "logarithms": lambda x, y: torch.log(x * x + 1.0) + torch.log1p(y * y) + torch.log2(x * x + 2.0),
    "logarithms to base 10": lambda x, y: torch.log10(x * x + 2.0) * y,
    "circular": lambda x, y: torch.sin(x) + torch.cos(y) * torch.tan(x / 2.0) + torch.atan2(x, 2.0 + y * y),
    "hyperbolic": lambda x, y: torch.sinh(x) + torch.cosh(y) + torch.tanh(x * y) + torch.asinh(x),
    "inverse": lambda x, y: torch.asin(x / 4.0) + torch.acos(y / 4.0) + torch.atan(x) + torch.acosh(3.0 + y * y),
    "errors": lambda x, y: torch.erf(x) + torch.erfc(y) + torch.lgamma(2.0 + x * x),
    "powers": lambda x, y: (x * x + 1.0).pow(y) + x.pow(3) + (y * y + 1.0).rsqrt() + (x * x + 1.0).sqrt().reciprocal(),
    "hypot": lambda x, y: torch.hypot(x, y + 5.0),
    "choices": lambda x, y: torch.where(x > y, x * y, x - y) + torch.maximum(x, y) * torch.minimum(x, 0.3 * y),
    "bounds": lambda x, y: torch.clamp(x, -0.5, 0.5) * y + F.hardtanh(y) + x.clamp(min=0.1) + torch.relu(y),
    "abs and sign": lambda x, y: x.abs() + torch.sign(x) * y + (x > 0).double() * y + torch.logical_and(x > 0, y > 0),
    "activations": lambda x, y: F.silu(x) + F.softplus(y, beta=2.0) + F.mish(x) + F.selu(y) + F.celu(x),
    "more activations": lambda x, y: F.logsigmoid(x) + F.elu(y, 0.7) + F.relu6(3.0 * x) + F.tanhshrink(y),
    "rational activations": lambda x, y: F.softsign(x) + F.hardswish(y),
    "losses": lambda x, y: F.smooth_l1_loss(x, y, reduction="none") + F.huber_loss(y, x, reduction="none"),
    "binary losses": lambda x, y: F.binary_cross_entropy_with_logits(x, torch.sigmoid(y), reduction="none"),
    "lerp and addcmul": lambda x, y: torch.lerp(x, y, 0.3) + torch.addcmul(x, y, y, value=0.5),
}
ROWS, COLUMNS = torch.tensor([0, 2]), torch.tensor([[0, 2], [1, 1], [3, 0]])
MASK = torch.tensor([True, False, True, False])
SHAPES = {
    "sums": lambda x, y: x.sum() + y.sum(0) + x.mean(1, keepdim=True).sum() + x.prod(1).sum(),
    "variances": lambda x, y: x.var(1) + y.std(1, unbiased=False) + torch.var_mean(x, 1)[1],
    "extrema": lambda x, y: x.amax(1) + y.amin(1) + x.max() + y.min() + x.amax((0, 1)),
    "softmax": lambda x, y: F.softmax(x, 0) * F.log_softmax(y, 1) + torch.logsumexp(x, 1, keepdim=True),
    "norms": lambda x, y: x.norm() + torch.linalg.vector_norm(y, 1, 1) + torch.linalg.vector_norm(x, float("inf"), 1),
    "normalize": lambda x, y: F.normalize(x, dim=1) + F.cosine_similarity(x, y, dim=1)[:, None],
    "cumulative": lambda x, y: x.cumsum(1) + y.flip(0).cumsum(0),
    "products": lambda x, y: x @ y.T @ torch.einsum("ij,kj->ik", x, y) + torch.dot(x[0], y[1]),
    "outer products": lambda x, y: torch.outer(x[0], y[1]),
    "batched": lambda x, y: torch.bmm(x[None], y.T[None])[0] + torch.matmul(x, y[0])[:, None],
    "movement": lambda x, y: x.t().reshape(2, 6)[:, 1:4] + y.permute(1, 0).contiguous().view(2, 6)[:, ::2],
    "joining": lambda x, y: torch.cat([x, y], 1)[:, 2:6] + torch.stack([x, y]).sum(0).roll(1, 0) + x.repeat(2, 1)[1:4],
    "splitting": lambda x, y: x.split([1, 3], 1)[1].unbind(1)[0] * y.chunk(2, 1)[0].unbind(1)[1],
    "padding": lambda x, y: F.pad(x, (1, -1, 2, 0))[2:] + F.pad(y, (0, 0, 1, 0), value=2.0)[:3],
    "triangles": lambda x, y: torch.tril(x @ y.T) + torch.triu(y @ x.T, 1) + torch.diagonal(x @ y.T).sum(),
    "indexing": lambda x, y: x[[0, 2, 0], [1, 1, 3]] + y[:, [3, 0]].sum(1) + x[1:, 0].sum() + y[..., -1],
    "gathers": lambda x, y: x.gather(1, COLUMNS) + y.index_select(1, ROWS),
    "scatters": lambda x, y: torch.zeros_like(x).scatter_add(1, COLUMNS, x[:, :2]) * y,
    "writes": lambda x, y: x.index_put((ROWS,), y[:2]) + y.masked_fill(MASK, 0.5),
    "in place": lambda x, y: x.clone().add_(y).mul_(2.0).clamp_(min=-1.0),
    "parts in place": lambda x, y: put_part(x, y),
    "convolutions": lambda x, y: F.conv1d(x[None], y[:, :3, None].expand(3, 3, 2), stride=2, padding=1)[0],
    "dilated, in groups": lambda x, y: F.conv2d(
        x.reshape(1, 2, 2, 3), y.reshape(2, 1, 2, 3)[..., :2], dilation=(1, 2), groups=2, padding=1
    ),
    "transposed": lambda x, y: F.conv_transpose2d(
        x.reshape(1, 2, 2, 3), y.reshape(2, 3, 2, 1), stride=2, padding=1, output_padding=1
    ),
    "pools": lambda x, y: F.max_pool2d(x[None], (1, 2))[0] * F.avg_pool1d(y[None], 2)[0],
    "adaptive pools": lambda x, y: F.adaptive_avg_pool1d(x[None], 3)[0] + F.adaptive_avg_pool2d(y[None], (3, 1))[0],
    "distances": lambda x, y: ((x[:, None] - y[None]) ** 2).sum(-1).add(1e-3).sqrt(),
}


def put_part(x, y):
    z = x * 1.0
    z[1] = y[0]
    z[:, 2:] += y[:, :2]
    return z
