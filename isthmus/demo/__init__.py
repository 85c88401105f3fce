"""The clusterset on one machine: N clusters and a hub, real Envoys, a load, and accidents on purpose.

Everything lives in a network namespace of its own (and a pid namespace, so that nothing survives it). Pods,
API servers, agents and Envoys are addresses of 10.64.0.0/10, made local by AnyIP; the death of a cluster is
silence: packets to its addresses are dropped and nothing else is touched.
"""
