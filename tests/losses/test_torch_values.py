"""The same numbers as torch.nn.functional, gradients included.

The file beside this one is written by tools/make_losses_oracle.py.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_losses as L

STORED = np.load(pathlib.Path(__file__).with_name("torch_values.npz"))


def ctc(x, labels, frame_lengths, label_lengths):
    frames = np.arange(x.shape[1])[None] >= np.asarray(frame_lengths)[:, None]
    length = np.arange(labels.shape[1])[None] >= np.asarray(label_lengths)[:, None]
    return L.ctc_loss(x, frames, labels, length)


def ignored(x, i):
    return L.softmax_cross_entropy_with_integer_labels(x, i, ignore_index=int(i[0]))


integer = L.softmax_cross_entropy_with_integer_labels
OURS = {
    "mse": L.squared_error,
    "huber": lambda x, y: L.huber_loss(x, y, delta=0.7),
    "cosine": L.cosine_similarity,
    "soft_ce": L.softmax_cross_entropy,
    "ce": integer,
    "ce_smooth": lambda x, i: integer(x, i, label_smoothing=0.1),
    "ce_weighted": lambda x, i, w: integer(x, i, label_smoothing=0.2, class_weights=w),
    "ce_ignored": ignored,
    "bce": L.sigmoid_binary_cross_entropy,
    "kl": L.kl_divergence,
    "gaussian": lambda x, y, v: L.gaussian_nll_loss(x, y, v, full=True),
    "poisson": lambda x, y: L.poisson_nll_loss(x, y, full=True),
    "poisson_rate": lambda x, y: L.poisson_nll_loss(x, y, log_input=False),
    "triplet": lambda a, p, n: L.triplet_margin_loss(a, p, n, eps=1e-12),
    "ctc": ctc,
}


@pytest.mark.parametrize("name", OURS)
def test_values_and_gradients_are_torchs(name):
    inputs, i = [], 0
    while f"{name}/input{i}" in STORED:
        a = STORED[f"{name}/input{i}"]
        inputs.append(a.astype(np.int32) if a.dtype == np.int64 else a)
        i += 1

    @jax.jit
    def value_and_grad(x):
        value, pull = jax.vjp(lambda x: OURS[name](x, *inputs[1:]), x)
        return value, pull(jnp.ones_like(value))[0]

    value, grad = value_and_grad(jnp.asarray(inputs[0]))
    np.testing.assert_allclose(value, STORED[f"{name}/value"], rtol=3e-6, atol=2e-6)
    np.testing.assert_allclose(grad, STORED[f"{name}/grad"], rtol=1e-5, atol=3e-6)
