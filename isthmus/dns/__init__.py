"""The DNS door: answers for the clusterset's zone (multi-cluster DNS 1.0.0, RFC 1035, 2308, 6891, 7766).

`rrset` runs beside the planner and turns a service and its plans into one compact row; `worker` runs in a
process of its own, keeps the rows as a name table and answers from it. Nothing here decides who gets
traffic: an answer is a draw from the shares of a plan (traffic-semantics, section 4).
"""
