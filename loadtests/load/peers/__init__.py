"""Peers: what people would pick instead, beside our doors in the same run. A module for each program."""

from __future__ import annotations

from loadtests.load.peers import controller, coredns, envoy
from loadtests.load.peers.peer import Peer

PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (envoy.EXAMPLE, envoy.TUNED, controller.NAIVE, coredns.STATIC)
}

__all__ = ["PEERS", "Peer"]
