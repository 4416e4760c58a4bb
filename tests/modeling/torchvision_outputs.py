"""What torchvision computes from random numbers, as files.

A program of its own: torch and TensorFlow crash in one process.

  python torchvision_outputs.py backbone NAME zipped|legacy FOLDER
    writes x.pth, and maps.npz with images and C2..C5
  python torchvision_outputs.py deformable STRIDE DILATION GROUPS FOLDER
    writes deformable.npz with arguments, result and gradients, all NCHW
"""

import os
import sys

import numpy as np
import torch
import torchvision


def model_with_random_statistics(name):
  """Batch norms that do something."""
  model = getattr(torchvision.models, name)(weights=None)
  for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.running_mean.normal_(0, 0.1)
      module.running_var.uniform_(0.5, 2)
      module.weight.data.uniform_(0.3, 1)
      module.bias.data.normal_(0, 0.1)
  return model.eval()


@torch.no_grad()
def maps_of(model, images):
  """C2..C5, NCHW."""
  x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
  maps = {}
  for level in range(1, 5):
    x = getattr(model, f'layer{level}')(x)
    maps[str(level + 1)] = x.numpy()
  return maps


def backbone(name, file_format, folder):
  model = model_with_random_statistics(name)
  images = torch.randn(2, 3, 96, 128)
  torch.save(model.state_dict(), os.path.join(folder, 'x.pth'),
             _use_new_zipfile_serialization=file_format == 'zipped')
  np.savez(os.path.join(folder, 'maps.npz'), images=images.numpy(),
           **maps_of(model, images))


def deformable(stride, dilation, groups, folder):
  """Two deformable groups; offsets that also leave the map."""
  stride, dilation, groups = int(stride), int(dilation), int(groups)
  h, w = -(-11 // stride), -(-14 // stride)
  tensors = dict(
      x=torch.randn(2, 8, 11, 14), offsets=3 * torch.randn(2, 36, h, w),
      kernel=torch.randn(12, 8 // groups, 3, 3),
      masks=torch.rand(2, 18, h, w))
  for tensor in tensors.values():
    tensor.requires_grad_()
  y = torchvision.ops.deform_conv2d(
      tensors['x'], tensors['offsets'], tensors['kernel'], stride=stride,
      padding=dilation, dilation=dilation, mask=tensors['masks'])
  upstream = torch.randn_like(y)
  y.backward(upstream)
  np.savez(
      os.path.join(folder, 'deformable.npz'), y=y.detach().numpy(),
      upstream=upstream.numpy(),
      **{name: tensor.detach().numpy() for name, tensor in tensors.items()},
      **{f'd_{name}': tensor.grad.numpy() for name, tensor in tensors.items()})


if __name__ == '__main__':
  torch.manual_seed(0)
  {'backbone': backbone, 'deformable': deformable}[sys.argv[1]](*sys.argv[2:])
