"""What a metanetwork is told of a network.

`values` reads the weights block by block and sums them up, `features` standardises what is known of
each unit and tensor.
"""
