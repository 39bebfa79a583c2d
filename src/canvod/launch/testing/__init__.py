"""What holds of every cluster and every store, as functions that raise `AssertionError` where it does not.

The project's own tests use them, and other people's tests may. They only look: nothing is started, changed or
removed. A message names each difference, so that a failure in CI can be understood from its log.

- `assert_nothing_left`: a cluster that has ended has left nothing on the engine and on this host.
- `assert_containers_match_plan`: the engine and the kernel hold the containers to what was planned.
- `assert_store_equals`: a group of a store holds the values of a model, and no others; `serial_model` is the
  model of a set of files, read one after the other.
- `assert_valid_observations`: what a reader returns is what the ingest relies on.

Nothing else of the project imports this package.
"""

from __future__ import annotations

from canvod.launch.testing.leftovers import assert_nothing_left, find_leftovers
from canvod.launch.testing.plan_match import assert_containers_match_plan, plan_differences
from canvod.launch.testing.reader_contract import assert_valid_observations
from canvod.launch.testing.store_model import (
    assert_dataset_equals,
    assert_store_equals,
    dataset_differences,
    serial_model,
)

__all__ = [
    "assert_containers_match_plan",
    "assert_dataset_equals",
    "assert_nothing_left",
    "assert_store_equals",
    "assert_valid_observations",
    "dataset_differences",
    "find_leftovers",
    "plan_differences",
    "serial_model",
]
