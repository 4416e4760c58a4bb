import operator

import pytest

from panet_tf.data import parallel


@pytest.mark.parametrize('num_workers', [0, 2])
def test_results_come_in_order_and_few_are_computed_ahead(num_workers):
  drawn = []

  def arguments():
    for i in range(40):
      drawn.append(i)
      yield (i,)

  results = parallel.in_order(operator.neg, arguments(), num_workers)
  assert next(results) == 0
  assert len(drawn) <= 1 + 2 * num_workers
  assert list(results) == [-i for i in range(1, 40)]
