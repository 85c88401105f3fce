"""The callers: programs of locust users, one process for each kind of client library."""
