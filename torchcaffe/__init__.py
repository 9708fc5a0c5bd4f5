"""torchcaffe: Caffe 1.0 on PyTorch. Users import it as `caffe`, from torchcaffe/pycaffe."""

__version__ = "1.0.0"  # the version of Caffe whose numbers it gives
