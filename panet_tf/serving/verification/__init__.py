"""An export beside the model it was made of; fails closed."""
