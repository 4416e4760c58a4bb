"""Installs panet_tf and the `panet` command."""

import setuptools

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
        'faster-coco-eval',
        'google-crc32c',
        'numpy',
        'opencv-python-headless',
        'Pillow',
        'protobuf',
        'pycocotools',
        'tensorflow==2.20.*',
        'tf-models-official==2.20.*',
        'tqdm',
    ],
    extras_require={'test': ['cityscapesscripts', 'pytest']},
    entry_points={'console_scripts': ['panet = panet_tf.cli:main']},
)
