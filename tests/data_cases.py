"""The cases of data layers, as in cases.py; layer_files.py writes the files they read."""

from __future__ import annotations

from layer_case import Blob, CaseList

CASES = CaseList()
case = CASES.add
X = Blob((2, 3, 5, 6))

DUMMY = 'type: "DummyData" dummy_data_param { %s }'
case("Input", 'type: "Input" input_param { shape { dim: 2 dim: 3 } }', exact=True, backward=False)
case("Input one shape for two tops", 'type: "Input" input_param { shape { dim: 4 } }', tops=2, backward=False, exact=True)
case("DummyData constant", DUMMY % "data_filler { value: 1.5 } shape { dim: 2 dim: 3 }", exact=True, backward=False)
case("DummyData no filler", DUMMY % "shape { dim: 4 }", exact=True, backward=False)
case("DummyData refilled", DUMMY % 'data_filler { type: "uniform" min: -1 max: 2 } shape { dim: 3 dim: 2 }', seed=3,
     passes=2, exact=True, backward=False)
case("DummyData two tops", DUMMY % ('data_filler { value: 2 } data_filler { type: "gaussian" std: 2 } shape { dim: 3 } '
                                    "shape { dim: 2 dim: 4 }"), tops=2, seed=4, exact=True, backward=False)
case("DummyData one filler for two", DUMMY % 'data_filler { type: "uniform" } shape { dim: 3 } shape { dim: 2 }', tops=2,
     seed=4, exact=True, backward=False)
case("DummyData legacy shape", DUMMY % "data_filler { value: -1 } num: 2 num: 1 channels: 3 height: 4 width: 5", tops=2,
     exact=True, backward=False)
DATA = 'type: "Data" data_param { source: "images" batch_size: %d backend: LMDB %s} %s'
for name, batch, parameter, transform, how in (
        ("", 7, "", "", {}), (" wraps", 30, "", "", {"passes": 3}), (" prefetch", 3, "prefetch: 2", "", {"passes": 4}),
        (" one top", 4, "", "scale: 0.00390625", {"tops": 1}), (" rand_skip", 4, "rand_skip: 9", "", {"seed": 1}),
        (" crop TEST", 4, "", "crop_size: 3", {"phase": "TEST"}), (" crop TRAIN", 9, "", "crop_size: 4", {"passes": 3}),
        (" mirror", 9, "", "mirror: true", {"passes": 2}), (" mirror TEST", 9, "", "mirror: true", {"phase": "TEST"}),
        (" crop mirror", 8, "", "crop_size: 5 mirror: true scale: 0.5", {"passes": 3}),
        (" mean_value", 4, "", "mean_value: 104.5 scale: 0.1", {}),
        (" mean_values", 4, "", "mean_value: 104 mean_value: 117 mean_value: 123", {}),
        (" mean_file", 4, "", 'mean_file: "mean.binaryproto" crop_size: 4 mirror: true scale: 0.3', {"passes": 2})):
    case("Data" + name, DATA % (batch, parameter, "transform_param { %s }" % transform),
         **{"tops": 2, "seed": 6, "backward": False, "exact": True, **how})
for item, name in enumerate(("large", "float", "colour", "grey"), 1):
    case("Data " + name, (DATA % (1, "", "")).replace("images", "mixed"), tops=2, passes=item, backward=False, exact=True)
case("Data force_color", (DATA % (1, "", "transform_param { force_color: true }")).replace("images", "mixed"), passes=4,
     backward=False, exact=True)

case("Data force_gray", (DATA % (1, "", "transform_param { force_gray: true }")).replace("images", "mixed"), passes=3,
     backward=False, exact=True)
case("Data then drawn", DATA % (4, "", "transform_param { mirror: true }"), seed=5, tops=2, backward=False,
     after=('type: "Dropout"',))

IMAGE = 'type: "ImageData" image_data_param { source: "%s" batch_size: %d %s} transform_param { %s }'
for name, source, batch, parameter, transform, how in (
        ("", "same.txt", 3, "", "", {"passes": 3}), (" batch of one", "same.txt", 1, "", "", {}),
        (" kinds", "kinds.txt", 5, "", "", {}), (" grey", "kinds.txt", 5, "is_color: false ", "", {}),
        (" resized", "sizes.txt", 5, "new_height: 6 new_width: 7 ", "", {}),
        (" enlarged", "sizes.txt", 5, "new_height: 41 new_width: 17 ", "", {}),
        (" resized grey", "sizes.txt", 5, "new_height: 3 new_width: 13 is_color: false ", "", {}),
        (" sizes one by one", "sizes.txt", 1, "", "", {"passes": 3}),
        (" labels", "labels.txt", 6, "new_height: 1 new_width: 1 ", "", {}),
        (" root_folder", "folder.txt", 2, 'root_folder: "folder/" ', "", {}),
        (" shuffle", "same.txt", 4, "shuffle: true ", "", {"passes": 5}),
        (" rand_skip", "same.txt", 3, "rand_skip: 5 ", "", {}),
        (" shuffle rand_skip crop mirror", "same.txt", 4, "shuffle: true rand_skip: 4 ", "crop_size: 4 mirror: true",
         {"passes": 4}),
        (" crop TEST", "kinds.txt", 5, "", "crop_size: 3", {"phase": "TEST"}),
        (" mean_file", "same.txt", 2, "", 'mean_file: "mean.binaryproto" mirror: true scale: 0.3', {}),
        (" mean_values", "same.txt", 2, "", "mean_value: 104 mean_value: 117 mean_value: 123", {}),
        (" parameters without effect", "same.txt", 2, 'scale: 3 mirror: true crop_size: 2 mean_file: "nowhere" ', "", {})):
    case("ImageData" + name, IMAGE % (source, batch, parameter, transform),
         **{"tops": 2, "seed": 6, "backward": False, "exact": True, **how})
case("ImageData then drawn", IMAGE % ("same.txt", 2, "shuffle: true rand_skip: 3 ", "crop_size: 5"), seed=5, tops=2,
     backward=False, after=('type: "Dropout"',))

WINDOW = 'type: "WindowData" window_data_param { source: "windows.txt" batch_size: %d %s} transform_param { crop_size: 5 %s}'
for name, batch, parameter, transform, how in (
        ("", 8, "", "", {}), (" mirror", 8, "", "mirror: true ", {}), (" TEST", 8, "", "mirror: true ", {"phase": "TEST"}),
        (" twice", 6, "", "mirror: true ", {"passes": 2}), (" context_pad", 9, "context_pad: 1 ", "", {}),
        (" context_pad mirror", 9, "context_pad: 2 ", "mirror: true ", {}), (" square", 9, 'crop_mode: "square" ', "", {}),
        (" square context_pad", 9, 'crop_mode: "square" context_pad: 1 ', "mirror: true ", {}),
        (" thresholds", 9, "fg_threshold: 0.7 bg_threshold: 0.3 ", "", {}),
        (" fg_fraction", 9, "fg_fraction: 0.7 ", "", {}), (" all foreground", 3, "fg_fraction: 1 ", "", {}),
        (" cache_images", 8, "cache_images: true ", "mirror: true ", {"passes": 2}),
        (" root_folder", 3, 'root_folder: "./" ', "", {}), (" scale", 3, "scale: 0.25 ", "scale: 2 ", {}),
        (" mean_file", 8, "context_pad: 1 scale: 0.1 ", 'mean_file: "mean.binaryproto" mirror: true ', {}),
        (" mean_value", 4, "context_pad: 1 ", "mean_value: 100 ", {}),
        (" mean_values", 4, "", "mean_value: 104 mean_value: 117 mean_value: 123 ", {}),
        (" parameters without effect", 4, 'mirror: true crop_size: 3 mean_file: "nowhere" ', "", {})):
    case("WindowData" + name, WINDOW % (batch, parameter, transform),
         **{"tops": 2, "seed": 7, "backward": False, "exact": True, **how})
case("WindowData then drawn", WINDOW % (2, "", "mirror: true "), seed=5, tops=2, backward=False,
     after=('type: "Dropout"',))

HDF5 = 'type: "HDF5Data" top: "data" top: "label" hdf5_data_param { source: "%s" batch_size: %d %s}'
for name, source, batch, parameter, how in (
        ("", "hdf5.txt", 2, "", {}), (" goes round", "hdf5.txt", 5, "", {"passes": 4}),
        (" one file", "hdf5_one.txt", 3, "", {"passes": 3}), (" batch larger than all", "hdf5.txt", 19, "", {}),
        (" shuffle", "hdf5.txt", 19, "shuffle: true ", {}), (" shuffle one file", "hdf5_one.txt", 5, "shuffle: true ",
                                                            {"passes": 3})):
    case("HDF5Data" + name, HDF5 % (source, batch, parameter),
         **{"tops": 0, "seed": 3, "backward": False, "exact": True, **how})
OUTPUT = 'type: "HDF5Output" hdf5_output_param { file_name: "out.h5" }'
case("HDF5Output", OUTPUT, X, Blob((2,)), tops=0, exact=True)
case("HDF5Output fewer axes", OUTPUT, Blob((4, 3, 2)), Blob((4, 1)), tops=0, exact=True)
case("HDF5Output resized", OUTPUT, Blob((4, 3)), Blob((4,)), tops=0, exact=True, passes=0, then=((2, 5), (2,)))
MEMORY = 'type: "MemoryData" memory_data_param { batch_size: 2 channels: 3 height: 2 width: 4 } '
ARRAYS = (Blob((6, 3, 2, 4)), Blob((6,), "labels:5"))
for passes in (1, 3, 4):
    case("MemoryData batch %d" % passes, MEMORY, tops=2, memory=ARRAYS, passes=passes, backward=False, exact=True)
case("MemoryData labels with 4 axes", MEMORY, tops=2, memory=(ARRAYS[0], Blob((6, 1, 1, 1))), backward=False, exact=True)
case("MemoryData transform_param without effect", MEMORY + "transform_param { scale: 2 crop_size: 1 mirror: true }", tops=2,
     memory=ARRAYS, seed=2, backward=False, after=('type: "Dropout"',))
