"""Records what BVLC's caffe.io makes of a small image: tests/goldens/io.npz. Run it under BVLC's Caffe:

    FCN_CAFFE=bvlc python tests/goldens/make_io.py

Only enlarging is recorded: what scikit-image does to images it makes smaller depends on its version (newer ones blur them).
"""

import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "..", "tools"))
from which_caffe import WHICH, caffe  # noqa: E402


def answers():
    """name -> array, the same calls for either Caffe."""
    image = np.random.RandomState(0).rand(7, 9, 3).astype(np.float32)
    transformer = caffe.io.Transformer({"data": (1, 3, 10, 14)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([104.0, 117.0, 123.0]))
    transformer.set_input_scale("data", 0.017)
    found = {"preprocess": transformer.preprocess("data", image)}
    found["deprocess"] = transformer.deprocess("data", found["preprocess"])
    transformer.set_mean("data", np.random.RandomState(1).rand(3, 6, 5) * 255)
    found["mean image"] = transformer.preprocess("data", image)
    found["resize"] = caffe.io.resize_image(image, (11, 9))
    found["resize 1 channel"] = caffe.io.resize_image(image[:, :, :1], (8, 20))
    found["resize 2 channels"] = caffe.io.resize_image(image[:, :, :2], (5, 20))
    found["oversample"] = caffe.io.oversample([image, image[::-1]], (4, 6))
    datum = caffe.io.array_to_datum((image.transpose(2, 0, 1) * 255).astype(np.uint8), 4)
    found["datum"] = caffe.io.datum_to_array(datum)
    found["datum bytes"] = np.frombuffer(datum.SerializeToString(), np.uint8)
    found["blobproto"] = caffe.io.blobproto_to_array(caffe.io.array_to_blobproto(image))
    return found


if __name__ == "__main__":
    provenance = "%s Caffe %s: python tests/goldens/make_io.py" % (WHICH, caffe.__version__)
    np.savez_compressed(os.path.join(HERE, "io.npz"), provenance=np.array(provenance), **answers())
