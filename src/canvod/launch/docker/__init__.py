"""The Docker engine: its SDK, create requests, the containers of a cluster, their logs and removal.

The only package that imports ``docker``, and only its module `engine` does. `watchdog` is the process
that removes a cluster whose launcher was killed. Below it: `canvod.launch.plan` and `host`. Above it:
`images`, `cluster`, `detached`.
"""
