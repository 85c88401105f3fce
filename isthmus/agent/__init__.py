"""The processes: their configuration, how they are put together, and what they keep on disk.

Nothing is decided here. `control` and `hubrole` are composition roots, written to be read from top to bottom;
`settings` is the only reader of the environment.
"""
