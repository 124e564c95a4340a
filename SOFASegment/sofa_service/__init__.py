"""The engine as a process: one protocol for a local engine beside Slicer and for a clinic's GPU server.

`client`, `launcher`, `protocol`, `framing` and `journal` run inside Slicer and need neither torch nor a web framework.
`server` and what it stands on (`routes`, `sessions`, `worker`, `guard`) run in the engine process.
"""
