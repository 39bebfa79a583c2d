"""Start, scale and stop the scheduler and workers of a plan: one life cycle, and one backend for each way.

`preparation` chooses the backend, makes the plan and has the images ready. `started_cluster` starts and stops
what the plan says by a `backend`: `docker_backend` (containers) or `process_backend`. `planned_cluster` is
the `distributed.SpecCluster`, `tls` makes the keys, and `scheduler_connection` holds the lease. Below it:
`canvod.launch.docker`, `images`, `plan`, `host`. Above it: `canvod.launch.manager` and `detached`, which use
the same start.
"""
