"""optx-compat: the names of optax over the packages of optx.

`import optx_compat as optax` in place of `import optax`. Each name is imported from the package of optx that
holds it, at its first use; `optx_compat._table` is the list. `python -m optx_compat FILE...` says where the
names that a program uses are, and `--write` rewrites it.
"""

from optx_compat._names import optax_names

__getattr__, __dir__, __all__ = optax_names(__name__)
