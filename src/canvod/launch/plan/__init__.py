"""From settings and a host to the plan of a cluster: pure functions and frozen values."""
