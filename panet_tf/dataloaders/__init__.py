"""From shards to input and labels of the network, in TensorFlow."""
