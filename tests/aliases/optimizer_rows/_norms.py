"""Norms that several papers use."""

import numpy as np


def norm(x):
    return np.sqrt(np.sum(x * x))


def rms(x):
    return np.sqrt(np.mean(x * x))
