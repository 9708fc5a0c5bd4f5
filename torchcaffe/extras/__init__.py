"""The layers of Caffe's forks that old segmentation and detection models need; importing this package switches them on.

    import torchcaffe.extras

One file an area; docs/extras.md lists them with the fork each follows and how it was checked. The layers are loaded, and
PyTorch with them, when a net is built.
"""

from torchcaffe import forks

forks.enable()
