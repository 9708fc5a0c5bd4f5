"""Detector: a net that classifies windows of images (BVLC's python/caffe/detector.py), as R-CNN does.

Girshick et al., "Rich feature hierarchies for accurate object detection and semantic segmentation", CVPR 2014; cropping
with context is its supplementary material A.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import io
from .classifier import image_transformer
from .proto.caffe_pb2 import TEST
from .pycaffe import Net


class Detector(Net):
    """A net in phase TEST with one square image input, whose first output is a vector of scores.

    mean, input_scale, raw_scale, channel_swap: see io.Transformer.
    context_pad: how many pixels around the window its crop shows, measured in the net's input (R-CNN: 16); 0 or None: none.
    """

    def __init__(self, model_file: str, pretrained_file: str, mean: np.ndarray | None = None,
                 input_scale: float | None = None, raw_scale: float | None = None,
                 channel_swap: Sequence[int] | None = None, context_pad: int | None = None):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = image_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[str, np.ndarray]]) -> list[dict[str, Any]]:
        """The scores of windows: for (image file, windows (ymin, xmin, ymax, xmax)) pairs, one dict a window.

        Its keys: window, prediction, filename.
        """
        name = self.inputs[0]
        asked, values = [], []
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                asked.append((filename, window))
                values.append(self.transformer.preprocess(name, self.crop(image, window)))
        predictions = self.forward_all(**{name: np.asarray(values)})[self.outputs[0]]
        return [{"window": window, "prediction": prediction, "filename": filename}
                for (filename, window), prediction in zip(asked, predictions)]

    def detect_selective_search(self, image_fnames: Sequence[str]) -> list[dict[str, Any]]:
        """detect_windows for the windows that selective search proposes.

        Needs the module selective_search_ijcv_with_python (and MATLAB) on the path, as in BVLC: ImportError without it.
        """
        import selective_search_ijcv_with_python as selective_search

        windows = selective_search.get_windows([str(name) for name in image_fnames], cmd="selective_search_rcnn")
        return self.detect_windows(zip(image_fnames, windows))

    def crop(self, im: np.ndarray, window: np.ndarray) -> np.ndarray:
        """The window (ymin, xmin, ymax, xmax) of an (H, W, C) image, its lower and right border not included.

        With context_pad: enlarged by it on all sides, at the input's size; what lies outside the image is the mean.
        """
        if not self.context_pad:
            top, left, bottom, right = window
            return im[top:bottom, left:right]
        size = self.blobs[self.inputs[0]].width
        top, left, bottom, right = (int(x) for x in self._with_context(np.asarray(window), size))
        scale_y, scale_x = size / (bottom - top + 1.0), size / (right - left + 1.0)
        pad_y, pad_x = round(max(0, -top) * scale_y), round(max(0, -left) * scale_x)
        height, width = im.shape[:2]
        top, bottom = np.clip((top, bottom), 0, height)
        left, right = np.clip((left, right), 0, width)
        if top == bottom or left == right:
            raise ValueError("crop: window %s (ymin, xmin, ymax, xmax) shows nothing of an image of height %d and width %d"
                             % (tuple(np.asarray(window).tolist()), height, width))
        crop_h = min(round((bottom - top + 1.0) * scale_y), size - pad_y)
        crop_w = min(round((right - left + 1.0) * scale_x), size - pad_x)
        crop = np.ones(self.crop_dims, np.float32) * self.crop_mean
        crop[pad_y : pad_y + crop_h, pad_x : pad_x + crop_w] = io.resize_image(im[top:bottom, left:right], (crop_h, crop_w))
        return crop

    def _with_context(self, window: np.ndarray, size: int) -> np.ndarray:
        """The window, scaled about its centre so that its crop has context_pad pixels of context on each side."""
        scale = size / (size - self.context_pad * 2.0)
        half = (window[2:] - window[:2] + 1) / 2.0
        centre = window[:2] + half
        return np.round(np.concatenate([centre - scale * half, centre + scale * half]))

    def configure_crop(self, context_pad: int | None) -> None:
        """Set context_pad, and the mean in the order and scale of images, which is what crops show outside of images."""
        name = self.inputs[0]
        transpose = self.transformer.transpose[name]
        shape = self.blobs[name].shape[1:]
        self.crop_dims = np.array([shape[axis] for axis in np.argsort(transpose)])
        self.context_pad = context_pad
        if not context_pad:
            return
        self.crop_mean = np.zeros(self.crop_dims, np.float32)
        mean = self.transformer.mean.get(name)
        if mean is None:
            return
        crop_mean = mean.transpose(np.argsort(transpose))
        swap = self.transformer.channel_swap.get(name)
        if swap is not None:
            crop_mean = crop_mean[:, :, np.argsort(swap)]
        self.crop_mean = crop_mean / self.transformer.raw_scale.get(name, 1)
