"""Tools for data, each under its name in Caffe: python -m torchcaffe <tool> <args> (tools/compute_image_mean.cpp,
convert_imageset.cpp, extract_features.cpp). Databases are LMDB; LevelDB is not read or written.

A tool takes its arguments and returns the exit code; what Caffe's CHECKs would refuse is a CaffeError.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image

from torchcaffe import common, files, images, log
from torchcaffe.errors import CaffeError
from torchcaffe.flags import describe_flags, parse_flags
from torchcaffe.lmdb import Lmdb
from torchcaffe.lmdb_writer import LmdbWriter
from torchcaffe.log import number
from torchcaffe.net import Net
from torchcaffe.proto import caffe_pb2

MEAN_FLAGS = {"backend": ("lmdb", "The backend containing the images; lmdb.")}
CONVERT_FLAGS = {
    "backend": ("lmdb", "The backend for storing the result; lmdb."),
    "check_size": (False, "Check that all the datum have the same size."),
    "encode_type": ("", "What type to encode the image as ('png', 'jpg', ...)."),
    "encoded": (False, "Save the encoded image in the datum."),
    "gray": (False, "Treat images as grayscale ones."),
    "resize_height": (0, "Height images are resized to."),
    "resize_width": (0, "Width images are resized to."),
    "shuffle": (False, "Randomly shuffle the order of images and their labels."),
}


# -- compute_image_mean ------------------------------------------------------------------------------------------------
def compute_image_mean(argv: Sequence[str]) -> int:
    """The mean image of a database, as a binaryproto: [-backend lmdb] INPUT_DB [OUTPUT_FILE]."""
    flags, words = parse_flags(argv, MEAN_FLAGS)
    if len(words) not in (1, 2):
        return _usage("compute_image_mean [FLAGS] INPUT_DB [OUTPUT_FILE]", MEAN_FLAGS)
    _check_backend(flags.backend)
    log.info("Starting iteration")
    total, count = np.zeros(0, np.float32), 0
    for key, value in Lmdb(words[0]):
        try:
            image, _ = images.of_datum(value, None)
        except CaffeError as e:
            raise CaffeError("%s: entry %r cannot be read: %s" % (words[0], key, e)) from e
        if not count:
            total = np.zeros(image.shape, np.float32)
        if image.size != total.size:
            raise CaffeError("%s: Incorrect data field size %d of entry %r, shape %s; the first image has shape %s. A mean "
                             "needs images of one size: resize them" % (words[0], image.size, key, image.shape, total.shape))
        total += image.reshape(total.shape)  # one by one, in float32, as Caffe adds them up
        count += 1
        if count % 10000 == 0:
            log.info("Processed %d files." % count)
    if not count:
        raise CaffeError("%s: the database is empty, there is no mean" % words[0])
    if count % 10000:
        log.info("Processed %d files." % count)
    total /= np.float32(count)
    if len(words) == 2:
        log.info("Write to %s" % words[1])
        channels, height, width = total.shape
        blob = caffe_pb2.BlobProto(num=1, channels=channels, height=height, width=width, data=total.ravel())
        files.write_file(words[1], [blob.SerializeToString()])
    log.info("Number of channels: %d" % len(total))
    for c, values in enumerate(total.reshape(len(total), -1)):
        mean = np.add.accumulate(values, dtype=np.float32)[-1] / np.float32(values.size)
        log.info("mean_value channel [%d]: %s" % (c, number(mean)))
    return 0


# -- convert_imageset --------------------------------------------------------------------------------------------------
def convert_imageset(argv: Sequence[str]) -> int:
    """Image files and labels as a database of Datum messages: [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME.

    A line of the list is a path, to which ROOTFOLDER/ is prepended as it is, and an integer after the last space. Files
    that are no images are logged and left out, as in Caffe; unlike in Caffe it is an error if none is an image.
    """
    flags, words = parse_flags(argv, CONVERT_FLAGS)
    if len(words) != 3:
        return _usage("convert_imageset [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME", CONVERT_FLAGS)
    _check_backend(flags.backend)
    root, listfile, name = words
    lines = _read_list(listfile)
    if flags.encode_type and not flags.encoded:
        log.info("encode_type specified, assuming encoded=true.")
        flags.encoded = True
    if flags.shuffle:
        log.info("Shuffling data")
        random.shuffle(lines)
    log.info("A total of %d images." % len(lines))
    height, width = max(0, flags.resize_height), max(0, flags.resize_width)
    count, size = 0, 0
    with LmdbWriter(name) as database:
        for i, (path, label) in enumerate(lines):
            try:
                image = images.read(root + path, height, width, not flags.gray)
            except CaffeError as e:
                log.error(str(e))
                continue
            size = size or image.size
            if flags.check_size and image.size != size:
                raise CaffeError("Incorrect data field size %d of %s, shape %s; the first image has %d values. Resize them "
                                 "(-resize_height, -resize_width) or leave -check_size out"
                                 % (image.size, root + path, image.shape, size))
            datum = caffe_pb2.Datum(label=label, encoded=flags.encoded)
            if flags.encoded:
                kind = flags.encode_type or os.path.splitext(path)[1][1:]
                datum.data = _encode(root + path, image, kind, height and width)
            else:
                datum.channels, datum.height, datum.width = image.shape
                datum.data = image.tobytes()
            database.put(b"%08d_%s" % (i, os.fsencode(path)), datum.SerializeToString())
            count += 1
            if count % 1000 == 0:
                log.info("Processed %d files." % count)
        if not count:
            raise CaffeError("%s: none of its %d files could be read; does ROOTFOLDER ('%s') end in a slash?"
                             % (listfile, len(lines), root))
    if count % 1000:
        log.info("Processed %d files." % count)
    return 0


def _read_list(path: str) -> list[tuple[str, int]]:
    """The paths and labels of a list file."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            text = f.read()
    except OSError as e:
        raise CaffeError("%s: cannot be read: %s" % (path, e.strerror or e)) from e
    lines = []
    for i, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        name, _, label = line.rpartition(" ")
        try:
            lines.append((name, int(label)))
        except ValueError:
            raise CaffeError("%s:%d: got %r, wanted a path, a space and an integer label" % (path, i, line)) from None
    return lines


def _encode(path: str, image: np.ndarray, kind: str, resized: bool) -> bytes:
    """The file's own bytes where it is of the wanted kind and size already, else the image encoded anew."""
    kinds = [k.lower().replace("jpeg", "jpg") for k in (kind, os.path.splitext(path)[1][1:])]
    if not resized and kinds[0] == kinds[1]:
        with open(path, "rb") as f:
            return f.read()
    file = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image[::-1].transpose(1, 2, 0)
    try:
        # 95 is what OpenCV takes; formats without a quality ignore it
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, kinds[0].replace("jpg", "jpeg"), quality=95)
    except (KeyError, OSError, ValueError) as e:
        raise CaffeError("%s: cannot be encoded as '%s': %s; set -encode_type, e.g. png" % (path, kind, e)) from e
    return file.getvalue()


# -- extract_features --------------------------------------------------------------------------------------------------
def extract_features(argv: Sequence[str]) -> int:
    """The values blobs have for each image of a net's data layer, as databases: MODEL PROTOTXT BLOBS DATABASES N DB_TYPE.

    BLOBS and DATABASES are lists separated by commas, N the number of batches; CPU or GPU and a device id may follow. Each
    image gives a Datum with float_data.
    """
    if len(argv) < 6:
        log.error("This program takes in a trained network and an input data layer, and then extract features of the input "
                  "data produced by the net.\nUsage: extract_features  pretrained_net_param  feature_extraction_proto_file"
                  "  extract_feature_blob_name1[,name2,...]  save_feature_dataset_name1[,name2,...]  num_mini_batches"
                  "  db_type  [CPU/GPU] [DEVICE_ID=0]")
        return 1
    model, prototxt, blobs, databases, batches, backend, *device = argv
    if not batches.isdecimal():
        raise CaffeError("num_mini_batches is '%s', wanted a number" % batches)
    if device and device[0] == "GPU":
        log.error("Using GPU")
        common.set_device(int(device[1]) if len(device) > 1 else 0)
        common.set_mode_gpu()
    else:
        log.error("Using CPU")
        common.set_mode_cpu()
    net = Net(files.read_net_text(prototxt), caffe_pb2.TEST)
    net.copy_trained_layers_from(model)
    names, paths = blobs.split(","), databases.split(",")
    if len(names) != len(paths):
        raise CaffeError("the number of blob names and dataset names must be equal: got %d and %d"
                         % (len(names), len(paths)))
    for name in names:
        if name not in net.blobs:
            raise CaffeError("Unknown feature blob name %s in the network %s (it has %s)"
                             % (name, prototxt, ", ".join(net.blobs)))
    _check_backend(backend)
    counts = [0] * len(names)
    with contextlib.ExitStack() as stack:
        writers = []
        for path in paths:
            log.info("Opening dataset %s" % path)
            writers.append(stack.enter_context(LmdbWriter(path)))
        log.error("Extracting Features")
        for _ in range(int(batches)):
            net.forward_pass()
            for i, (name, writer) in enumerate(zip(names, writers)):
                blob = net.blobs[name]
                for row in blob.value.cpu().numpy().reshape(blob.num, -1):
                    datum = caffe_pb2.Datum(channels=blob.channels, height=blob.height, width=blob.width, float_data=row)
                    writer.put(b"%010d" % counts[i], datum.SerializeToString())
                    counts[i] += 1
                    if counts[i] % 1000 == 0:
                        log.error("Extracted features of %d query images for feature blob %s" % (counts[i], name))
        for name, count in zip(names, counts):
            if count % 1000 or not count:
                log.error("Extracted features of %d query images for feature blob %s" % (count, name))
    log.error("Successfully extracted the features!")
    return 0


# -- shared ------------------------------------------------------------------------------------------------------------
def _check_backend(backend: str) -> None:
    if backend == "leveldb":
        raise CaffeError("backend leveldb: this engine reads and writes LMDB; say lmdb")
    if backend != "lmdb":
        raise CaffeError("Unknown database backend '%s'; wanted lmdb" % backend)


def _usage(text: str, flags: dict) -> int:
    print("Usage:\n    %s\n%s" % (text, describe_flags(flags)))
    return 1
