"""Laws of what comes back from a network, beside the model that was traced.

It is one of its own (`independence`), trains as the model does (`training`), and cut it is right
for every size of inputs that it takes (`sizes`).
"""
