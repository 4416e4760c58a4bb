"""ResNet and ResNeXt, and the blocks they are made of."""
