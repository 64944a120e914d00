"""What runs inside the sealed image: a Jupyter server that is closed unless a seal opens it.

`python -m jupbox_server` is the server, `python -m jupbox_server.health` its probe and
`python -m jupbox_server.control` the way in for whoever may use the engine. This file stays
empty of imports: the probe and the control client start in milliseconds.
"""
