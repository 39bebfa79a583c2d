"""Start, scale and stop the scheduler and workers of a plan, by one life cycle and a backend each way.

`preparation` makes the plan and has the images ready, `lifecycle` starts and stops, and a `backend`
carries it out: `docker` (containers), `local` (processes); `pool` stands in where Dask is not installed.
`base` is the `distributed.SpecCluster`, `tls` makes the keys, `scheduler_rpc` holds the lease. Below it:
`canvod.launch.docker`, `images`, `plan`, `host`. Above it: `canvod.launch.manager` and `detached`, which
use the same start.
"""
