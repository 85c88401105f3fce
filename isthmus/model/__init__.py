"""The words of the mission as frozen values.

Nothing here knows Kubernetes, a wire format or a clock: objects become these values at the border
(`mcs.border`, `traffic.accept`, `fleet.accept`), and every decision is taken on them.
"""
