"""The Docker edge: the SDK, create requests, the containers of a cluster, their logs and their removal.

The only package that imports ``docker``. Below it: `plan`, `host`. Above it: `images`, `cluster`, `detached`.
"""
