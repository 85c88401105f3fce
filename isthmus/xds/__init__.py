"""The xDS door: plans become Envoy resources in the control process, a worker serves them over ADS.

`envoy/` renders (pure, needs protobuf); `rows` names what travels between the two processes; `snapshot`,
`ads`, `server` and `worker` serve. The serving half imports neither the rendering half nor any decision.
"""
