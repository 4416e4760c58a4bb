"""Ways to compute the same numbers, each for what it does best.

* 'xla': one fused loop, compiled by XLA for every new shape; the fastest for
  training and prediction on CPU.
* 'kernels': TensorFlow's own kernels.
* 'saved': the same without a gradient, which a saved graph cannot hold.
* 'builtin': ops only that TFLite has, too; shapes are static.
"""

XLA, KERNELS, SAVED, BUILTIN = NAMES = ('xla', 'kernels', 'saved', 'builtin')


def check(formulation: str) -> str:
  """The name itself; ValueError for one that is none."""
  if formulation not in NAMES:
    raise ValueError(f'Formulation {formulation!r}: expected one of {NAMES}.')
  return formulation
