"""From observation files to one commit in an Icechunk store."""
