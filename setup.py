"""Installs panet_tf and the `panet` command."""

import setuptools

_ONNX = ['onnx', 'onnxruntime', 'tf2onnx']

setuptools.setup(
    name='panet_tf',
    version='0.1.0',
    description='Path Aggregation Network for Instance Segmentation (PANet, '
    'CVPR 2018) for TensorFlow and the Model Garden',
    license='Apache-2.0',
    packages=setuptools.find_packages(include=['panet_tf', 'panet_tf.*']),
    # TensorFlow 2.20 has no wheel for 3.14, pinned NumPy none before 3.11.
    python_requires='>=3.11,<3.14',
    install_requires=[
        'absl-py',
        'ai-edge-litert',
        'faster-coco-eval',
        'flatbuffers',
        'google-crc32c',
        'h5py',
        'litert-quantizer',
        'numpy',
        'opencv-python-headless',
        'Pillow',
        'protobuf',
        'pycocotools',
        'scipy',
        'tensorflow==2.20.*',
        'tensorflow-serving-api==2.20.*',
        'tf-models-official==2.20.*',
        'tqdm',
    ],
    extras_require={
        'onnx': _ONNX,
        # Of tests only; gigabytes.
        'torchvision': ['torch', 'torchvision'],
        'test': ['cityscapesscripts', 'pytest', *_ONNX],
    },
    entry_points={'console_scripts': ['panet = panet_tf.cli:main']},
)
