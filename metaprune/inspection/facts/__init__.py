"""What is read off a traced network, one kind of fact a file.

`groups`, `exactness` and `left_alone` say what may be pruned and what may not, `turning` which
features may be turned by matrices; `layers`, `modules`, `flops` and `latency` what the forward
costs; `graph` and `notes` the rest. Nothing here knows how it is shown.
"""
