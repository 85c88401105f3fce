"""Tables, derivations and the graph: how state flows through an agent.

State is a chain of tables and each arrow a pure function of the changed keys, so cost follows the change and
not the world.
"""

from isthmus.flow.derive import Again, Derived, Input, Priority, derive, on
from isthmus.flow.graph import Graph
from isthmus.flow.index import Index
from isthmus.flow.spread import spread
from isthmus.flow.table import Table, Writer

__all__ = [
    "Again",
    "Derived",
    "Graph",
    "Index",
    "Input",
    "Priority",
    "Table",
    "Writer",
    "derive",
    "on",
    "spread",
]
