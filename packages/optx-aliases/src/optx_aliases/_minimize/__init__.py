"""Minimization to convergence, in one call."""
