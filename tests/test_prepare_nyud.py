"""data/nyud/prepare.py and labeled.py: from the prepared archive, and from the published file, in their true formats."""

import dataclasses
import hashlib
import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image
from prepare_for_tests import module
from segfiles_for_tests import save_matrix, save_picture, shared, write_list, write_nyud
from test_prepare_pascal import files, pack

nyud = module("nyud")
hha, labeled, sources = (sys.modules[name] for name in ("hha", "labeled", "sources"))
FetchError = sources.FetchError
IDS = {"train": ["5003", "5001"], "val": ["5002"], "test": ["5005", "5004"]}
TRAINVAL = IDS["train"] + IDS["val"]


def expect(lists: dict[str, list[str]]) -> "nyud.Expected":
    def split(name, ids):
        return sources.Split(name, len(ids), sources.set_hash(ids), hashlib.sha256("\n".join(ids).encode()).hexdigest())
    return nyud.Expected(*(split(name, ids) for name, ids in lists.items()), sum(map(len, lists.values())))


@pytest.fixture
def expected():
    return expect(IDS)


# -- the prepared data -------------------------------------------------------------------------------------------------
@pytest.fixture
def archive(tmp_path):
    """published/nyud and nyud.tar.gz: as the authors prepared it."""
    folder = tmp_path / "published/nyud"
    for name, ids in IDS.items():
        write_nyud(folder, ids, name)
    return pack(tmp_path / "published/nyud.tgz", folder, "nyud").parent


@pytest.mark.parametrize("given", ["nyud.tgz", "nyud", "."])
def test_prepared_data(archive, tmp_path, expected, given):
    root, before = tmp_path / "root", files(archive)
    record = nyud.prepare(root, archive / given, expected=expected)
    for name, ids in {**IDS, "trainval": TRAINVAL}.items():  # train, then val: no trainval was ever released
        assert (root / f"nyud/{name}.txt").read_text().split() == ids
        assert record[name] == len(ids)
    assert record["order"] == "as released" and record["labels"] == 5 and sum(record["pixels"]) == 5 * 13 * 9
    assert files(archive) == before
    os.replace(root, tmp_path / "moved")
    assert nyud.prepare(tmp_path / "moved", expected=expected) == record
    from nyud_layers import NYUDSegDataLayer
    from test_dataset_layers import make
    layer, top = make(NYUDSegDataLayer, 4, nyud_dir=str(tmp_path / "moved/nyud"), split="trainval", seed=1337,
                      tops=["color", "depth", "hha", "label"])
    layer.reshape([], top)
    assert layer.indices == TRAINVAL and top[2].data.shape == (1, 3, 9, 13)


def test_lists_of_ones_own(archive, tmp_path, expected):
    for name in IDS:
        (archive / f"nyud/{name}.txt").unlink()
    with pytest.raises(FetchError, match=r"text files \(none there\) lists the 2 test frames.*--splits FILE, or .*--lists"):
        nyud.prepare(tmp_path / "root", archive / "nyud", expected=expected)
    scipy.io.savemat(str(archive / "splits.mat"), {"testNdxs": np.array([[4], [5]]), "trainNdxs": np.array([[1], [2], [3]])})
    record = nyud.prepare(tmp_path / "root", archive / "nyud", splits=archive / "splits.mat", expected=expected)
    assert (tmp_path / "root/nyud/trainval.txt").read_text().split() == sorted(TRAINVAL)
    assert record["order"] == "not as released" and "train" not in record
    for name, ids in IDS.items():
        write_list(archive / f"lists/{name}.txt", ids)
    for lists in (archive / "lists", None):  # and they stay
        record = nyud.prepare(tmp_path / "root", archive / "nyud", lists=lists, expected=expected)
        assert (tmp_path / "root/nyud/trainval.txt").read_text().split() == TRAINVAL and record["order"] == "as released"
    write_list(archive / "lists/val.txt", ["5004"])
    with pytest.raises(FetchError, match="lists: the split val has 1 ids, set hash"):
        nyud.prepare(tmp_path / "root", archive / "nyud", lists=archive / "lists", expected=expected)
    scipy.io.savemat(str(archive / "splits.mat"), {"testNdxs": np.array([[3], [5]])})
    with pytest.raises(FetchError, match="splits.mat: the split test has 2 ids"):
        nyud.prepare(tmp_path / "other", archive / "nyud", splits=archive / "splits.mat", expected=expected)


LABEL, DEPTH, HHA = "segmentation/img_5001.mat", "data/depth/img_5002.png", "data/hha/img_5002.png"


@pytest.mark.parametrize("spoil, words", [
    (lambda d: save_matrix(d / LABEL, "segmentation", np.full((9, 13), 41)), "values go from 41 to 41"),
    (lambda d: save_matrix(d / LABEL, "segmentation", np.ones((13, 9))), "9 x 13 .* its image"),
    (lambda d: save_picture(d / DEPTH, np.zeros((9, 13), np.uint16)), "117 pixels are 0; wanted filled depth"),
    (lambda d: save_picture(d / DEPTH, np.ones((9, 12), np.uint16)), "of another size than"),
    (lambda d: save_picture(d / DEPTH, np.ones((9, 13), np.uint8)), "depth image of mode L"),
    (lambda d: save_picture(d / HHA, np.ones((8, 13, 3), np.uint8)), "of another size than"),
    (lambda d: (d / HHA).unlink(), "1 of 20 files are missing, the first .*hha/img_5002.png; remove .*published,"),
    (lambda d: write_nyud(d, ["5009"], "more"), None),  # a frame no list has does no harm
    (lambda d: (d / "test.txt").write_text("5005\n5005\n"), "none of its text files"),
])
def test_data_that_are_not_the_prepared_ones(archive, tmp_path, expected, spoil, words):
    spoil(archive / "nyud")
    for _ in range(2):
        if words is None:
            nyud.prepare(tmp_path / "root", archive / "nyud", expected=expected)
            continue
        with pytest.raises((FetchError, ValueError), match=words):
            nyud.prepare(tmp_path / "root", archive / "nyud", expected=expected)


# -- the published file ------------------------------------------------------------------------------------------------
CLASSES = 6
TABLE = np.array([3, 40, 1, 1, 7, 38], np.uint8)  # of the data set's classes 1..6, which of the 40


@dataclasses.dataclass
class Published:
    """A miniature of the data set as published: its folder, and its arrays with MATLAB's axes."""

    folder: Path
    images: np.ndarray
    depths: np.ndarray
    raw: np.ndarray
    labels: np.ndarray

    def original(self, **kwargs) -> "nyud.Original":
        return nyud.Original(**{"labeled": self.folder / "nyu.mat", "mapping": self.folder / "classMapping40.mat", **kwargs})


def save_hdf5(path: Path, **variables: np.ndarray) -> None:
    """A .mat file of version 7.3: HDF5 behind MATLAB's 512 bytes, axes the other way round; an object array as cells."""
    with h5py.File(path, "w", userblock_size=512) as f:
        for name, held in variables.items():
            if held.dtype == object:
                cells = [f.create_dataset(f"#refs#/{name}{i}", data=np.array([[ord(c)] for c in text], np.uint16))
                         for i, text in enumerate(held.ravel())]
                refs = np.empty(held.T.shape, h5py.ref_dtype)
                refs.ravel()[:] = [cell.ref for cell in cells]
                f.create_dataset(name, data=refs, dtype=h5py.ref_dtype)
            else:
                f.create_dataset(name, data=held.T)
                f[name].attrs["MATLAB_class"] = np.bytes_(held.dtype.name)
    with open(path, "r+b") as f:
        f.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(512))


@pytest.fixture
def published(tmp_path):
    """Three frames of noise, which show it if rows and columns, or their directions, are mistaken."""
    rng = np.random.RandomState(0)
    held = Published(tmp_path / "published", rng.randint(0, 255, (480, 640, 3, 3)).astype(np.uint8),
                     np.full((480, 640, 3), 2.5, np.float32), np.zeros((480, 640, 3), np.float32),
                     rng.randint(0, CLASSES + 1, (480, 640, 3)).astype(np.uint16))
    held.depths += np.arange(480, dtype=np.float32)[:, None, None] / 400 + np.arange(3, dtype=np.float32) / 100
    held.raw[:] = np.where(rng.rand(480, 640, 3) < .1, 0, held.depths)
    held.folder.mkdir()
    names = np.array([f"class {i}" for i in range(CLASSES)], object)[:, None]
    save_hdf5(held.folder / "nyu.mat", images=held.images, depths=held.depths, rawDepths=held.raw, labels=held.labels,
              names=names)
    scipy.io.savemat(str(held.folder / "classMapping40.mat"), {"mapClass": TABLE[None], "className": names})
    scipy.io.savemat(str(held.folder / "splits.mat"), {"testNdxs": np.array([[3]], np.uint16)})
    return held


def cut(frame: np.ndarray) -> np.ndarray:
    return frame[45:470, 40:600]


def test_from_the_published_file(published, tmp_path):
    expected = expect({"train": ["5002"], "val": ["5001"], "test": ["5003"]})
    root, splits = tmp_path / "root", published.folder / "splits.mat"
    record = nyud.prepare(root, original=published.original(), splits=splits, expected=expected)
    table = np.concatenate([[0], TABLE])
    for index in range(3):
        name = f"img_{5001 + index}"
        image, depth, raw, encoded = (np.array(Image.open(root / f"nyud/data/{kind}/{name}.png"))
                                      for kind in ("images", "depth", "rawdepth", "hha"))
        assert np.array_equal(image, cut(published.images[..., index])) and image.shape == (425, 560, 3)
        assert np.abs(depth - 1000. * cut(published.depths[..., index])).max() <= .5 and depth.dtype == np.uint16
        assert np.array_equal(raw == 0, cut(published.raw[..., index]) == 0)
        label = scipy.io.loadmat(root / f"nyud/segmentation/{name}.mat")["segmentation"]
        assert np.array_equal(label, table[cut(published.labels[..., index])]) and label.dtype == np.uint8
        if index == 0:
            assert np.array_equal(encoded, hha.encode(depth / 1000., hha.NYUD_CAMERA.window(45, 40), raw / 1000.))
    assert (root / "nyud/trainval.txt").read_text().split() == ["5001", "5002"]
    assert record["labels"] == 3 and record["nyud"]["window"] == [45, 40, 425, 560]
    assert record["pixels"][1:3] == [0, np.isin(cut(published.labels), [1]).sum()] and record["nyud"]["mapping"]["md5"]
    assert not list(root.rglob("*.partial"))
    assert nyud.prepare(root, expected=expected) == record


def test_what_is_there_is_kept(published, tmp_path):
    """A conversion that was stopped goes on: the frames done are left alone, and no temporary file stays."""
    target = tmp_path / "root/published"
    with labeled.Labeled(published.folder / "nyu.mat") as opened:
        mapping = labeled.read_mapping(published.folder / "classMapping40.mat", opened.classes)
        going = labeled.convert(opened, mapping, tmp_path / "root/published.partial")
        assert next(going) == 1 and next(going) == 2
        going.close()
    (tmp_path / "root/published.partial/data/images/.1.img_5003.png").write_bytes(b"half")
    before = files(tmp_path / "root/published.partial")
    assert len(before) == 2 * 4 + 1
    nyud.provide_original(tmp_path / "root", target, published.original(), published.folder / "nyu.mat", nyud.ORIGINAL)
    after = files(target)
    assert len(after) == 3 * 4 and {k: v for k, v in before.items() if "/." not in k}.items() <= after.items()


@pytest.mark.parametrize("save", [save_hdf5, lambda path, **held: scipy.io.savemat(str(path), held, do_compression=True)])
def test_mappings(published, save):
    path, labels = published.folder / "m.mat", published.labels[..., 1]
    save(path, labels40=(published.labels * 3).astype(np.uint8))
    assert np.array_equal(labeled.read_mapping(path, CLASSES)(1, labels), labels * 3)
    save(path, mapClass=TABLE[None].astype(float))
    assert np.array_equal(labeled.read_mapping(path, CLASSES)(1, labels), np.concatenate([[0], TABLE])[labels])
    for held, words in (({"mapClass": TABLE[None, 1:]}, r"mapClass has 5 numbers, 1\.\.40; wanted the mapping .*6 classes"),
                        ({"mapClass": TABLE[None] + 1}, r"mapClass has 6 numbers, 2\.\.41"),
                        ({"labels40": published.labels[:4]}, r"labels40 is of shape \(4, 640, 3\)"),
                        ({"other": TABLE}, "a .mat file without mapClass or labels40; wanted")):
        save(path, **held)
        with pytest.raises(FetchError, match=words):
            labeled.read_mapping(path, CLASSES)
    for content, words in ((b"hello", "no .mat file; wanted"), (path.read_bytes()[:600], "damaged|no .mat file|without")):
        path.write_bytes(content)
        with pytest.raises(FetchError, match=words):
            labeled.read_mapping(path, CLASSES)


def test_the_window_is_read_off_an_image(published):
    part = published.folder / "img_5003.png"
    save_picture(part, published.images[44:469, 41:601, :, 2])
    with labeled.Labeled(published.folder / "nyu.mat") as opened:
        assert nyud.window_of(opened, part) == (44, 41, 425, 560)
        assert nyud.window_of(opened, None) == (45, 40, 425, 560)
        shutil.copy(part, published.folder / "img_5002.png")
        with pytest.raises(FetchError, match="560 x 425 .*, nowhere in its frame of 640 x 480"):
            nyud.window_of(opened, published.folder / "img_5002.png")
        for name in ("img.png", "img_5004.png"):
            with pytest.raises(FetchError, match=f"{name}: its name says no frame"):
                nyud.window_of(opened, published.folder / name)


@pytest.mark.parametrize("spoil, words", [
    (lambda p: {"mapping": None}, "no mapping to 40 classes is named; wanted .*894 classes .*classMapping40.mat"),
    (lambda p: {"mapping": p.folder / "none.mat"}, "none.mat: no such file; wanted the mapping"),
    (lambda p: {"labeled": p.folder / "none.mat"}, "none.mat: no such archive or folder.*\n.*labeled.mat\n.*--labeled"),
    (lambda p: {"labeled": p.folder / "splits.mat"}, "no .mat file of version 7.3; wanted nyu_depth_v2_labeled.mat"),
    (lambda p: save_hdf5(p.folder / "nyu.mat", images=p.images, depths=p.depths), "'rawDepths': None.* is it nyu_depth"),
    (lambda p: save_hdf5(p.folder / "nyu.mat", images=p.images, depths=p.depths[..., :2], rawDepths=p.raw, labels=p.labels,
                         names=np.zeros((6, 1))), r"'depths': \(2, 640, 480\)"),
    (lambda p: save_hdf5(p.folder / "nyu.mat", images=p.images, depths=p.depths, rawDepths=p.raw, labels=p.labels + 1,
                         names=np.zeros((6, 1))), r"labels of frame 1 goes from 1 to 7; wanted 0\.\.6"),
    (lambda p: save_hdf5(p.folder / "nyu.mat", images=p.images, depths=p.depths * np.nan, rawDepths=p.raw, labels=p.labels,
                         names=np.zeros((6, 1))), "depths of frame 1 goes from nan"),
    (lambda p: (p.folder / "nyu.mat").write_bytes((p.folder / "nyu.mat").read_bytes()[:9000]), "damaged, or cut short"),
])
def test_a_published_file_that_is_not_it(published, tmp_path, expected, spoil, words):
    changes = spoil(published)
    original = published.original(**changes if isinstance(changes, dict) else {})
    with pytest.raises(FetchError, match=words):
        nyud.prepare(tmp_path / "root", original=original, splits=published.folder / "splits.mat", expected=expected)
    assert not (tmp_path / "root/nyud/published").exists()


def test_the_command(archive, tmp_path, capsys):
    assert nyud.main(["--nyud", str(archive / "nyud"), "--labeled", "x.mat", "--root", str(tmp_path)]) == 1
    assert "wanted one or the other" in capsys.readouterr().err
    assert nyud.main(["--nyud", str(archive / "nyud"), "--root", str(tmp_path)]) == 1
    assert "lists the 654 test frames" in capsys.readouterr().err  # a miniature is not NYUD


# -- real frames -------------------------------------------------------------------------------------------------------
def test_the_window_fits_what_the_camera_measured():
    """Where the depth camera could see at all, in a whole frame and in a prepared one, leaves rows 45 or 46, column 40.

    The edge of what is seen runs slanted over the frame and moves with distance; data/nyud/README.md tells how it is used.
    """
    samples = shared("nyud-samples")
    whole, part = (np.array(Image.open(samples / name)) for name in ("cxk_0_raw.png", "sg_rawdepth.png"))
    row, column, rows, columns = hha.WINDOW
    assert part.shape == (rows, columns) == np.array(Image.open(samples / "sg_images.png")).shape[:2]
    right = column + columns - 1
    assert whole[row, right] > 0 == whole[row - 1, right] and part[0, -1] > 0      # not higher
    assert (whole[row + rows + 1:, column] == 0).all() and part[-1, 0] > 0         # at most one row lower
    # the left edge, in pixels, moves by 13 / distance (the cameras are 2.5 cm apart, 518.86 pixels focal length)
    def edge(frame, first, unit):
        seen = [(at, np.flatnonzero(frame[at])[0]) for at in range(first, first + 100)]
        return np.median([x + 12.97 / (frame[at, x] / unit) for at, x in seen])
    assert abs(edge(whole, row, 1e4) - edge(part, 0, 1e3) - column) < .5
