"""Targets, checks, verdicts: what the endpoints of all clusters look like from here.

Verdicts are advice and fail open (traffic-semantics, section 1); whoever probes distrusts itself first.
"""
