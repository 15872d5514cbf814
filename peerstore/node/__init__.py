"""A storage node: the service, its handlers, replication."""
