"""PANet (CVPR 2018) for TensorFlow, in the style of the Model Garden."""

__version__ = '0.1.0'
