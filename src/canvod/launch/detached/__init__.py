"""Clusters that outlive their command: start, discovery, credentials, status, scaling, the Compose file.

It starts containers by the same code as `canvod.launch.manager`.
"""
