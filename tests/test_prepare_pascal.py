"""data/fetch.py and data/pascal/prepare.py, on miniature archives and a local server that misbehaves on demand."""

import dataclasses
import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from prepare_for_tests import module
from segfiles_for_tests import ROOT, save_label, shared, write_sbd, write_voc

pascal = module("pascal")
fetch = sys.modules["fetch"]

TRAIN, VAL = ["t1", "t2", "b1"], ["v1", "v2", "b1", "v3"]
NEW = ["n1", "n2"]      # labelled in the 2012 of the miniature only


# -- the miniature -----------------------------------------------------------------------------------------------------

def pack(archive: Path, folder: Path, prefix: str) -> Path:
    """A tar archive (gzip if .tgz) of a folder, under `prefix`."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as tar:
        tar.add(folder, prefix)
    return archive


@pytest.fixture
def mini(tmp_path):
    """Archives and folders of a miniature VOC2011, VOC2012 and SBD."""
    base = tmp_path / "published"
    for year, ids in (("2011", VAL), ("2012", sorted(VAL + NEW))):
        folder = base / f"VOCdevkit{year}/VOC{year}"
        write_voc(folder, ids)
        (folder / "Annotations").mkdir()
        (folder / "Annotations/v1.xml").write_text("<not needed/>")
    write_sbd(base / "benchmark_RELEASE/dataset", TRAIN)
    (base / "benchmark_RELEASE/dataset/val.txt").write_text("v1\n")
    write_sbd(base / "val", ["v1"])
    for kind, end in (("img", "jpg"), ("cls", "mat")):
        os.replace(base / f"val/{kind}/v1.{end}", base / f"benchmark_RELEASE/dataset/{kind}/v1.{end}")
    pack(base / "VOCtrainval_25-May-2011.tar", base / "VOCdevkit2011", "TrainVal/VOCdevkit")
    pack(base / "VOCtrainval_11-May-2012.tar", base / "VOCdevkit2012", "VOCdevkit")
    pack(base / "benchmark.tgz", base / "benchmark_RELEASE", "benchmark_RELEASE")
    return base


@pytest.fixture
def expected():
    candidates = sorted(set(VAL + NEW) - set(TRAIN))
    new = sum(1 << i for i, name in enumerate(reversed(candidates)) if name in NEW)
    return pascal.Expected(train=3, seg11valid=3, seg11valid_hash=pascal.set_hash(["v1", "v2", "v3"]),
                           voc2012_hash=pascal.set_hash(candidates), new_in_2012=new)


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder with HTTP ranges. `cuts`: the n-th answer ends after so many bytes. Counts the bytes it sent."""

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.cuts, self.ranges, self.sent, self.requests = folder, [], True, 0, 0
        self.content_type = "application/x-tar"
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(.01,), daemon=True).start()

    def source(self, name: str, **changes) -> "pascal.Source":
        """A source of prepare.py that points here."""
        source = pascal.SOURCES[name]
        return dataclasses.replace(source, **{"url": f"{self.url}/{source.archive}", "md5": None, **changes})


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests += 1
        path = server.folder / self.path[1:]
        if not path.is_file():
            self.send_error(404)
            return
        body, start = path.read_bytes(), 0
        if server.ranges and self.headers["Range"]:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Type", server.content_type)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        block = body[start:][: server.cuts.pop(0)] if server.cuts else body[start:]
        server.sent += len(block)  # before the client can have them, and look
        self.wfile.write(block)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(mini):
    server = Server(mini)
    yield server
    server.shutdown()
    server.server_close()


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def files(folder: Path) -> dict:
    """Every file below a folder with its time of change; links are followed."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


# -- download ----------------------------------------------------------------------------------------------------------

def get(server, path, md5=None):
    return fetch.download(f"{server.url}/benchmark.tgz", path, md5, pause=0)


def test_download_goes_on_where_the_connection_broke(server, mini, tmp_path):
    whole = (mini / "benchmark.tgz").read_bytes()
    server.cuts = [1000, 700, len(whole)]
    found = get(server, tmp_path / "a/b.tgz", md5(mini / "benchmark.tgz"))
    assert (tmp_path / "a/b.tgz").read_bytes() == whole and os.listdir(tmp_path / "a") == ["b.tgz"]
    assert server.sent == len(whole) and server.requests == 3  # no byte was sent twice
    assert found == {"md5": hashlib.md5(whole).hexdigest(), "sha256": hashlib.sha256(whole).hexdigest()}


def test_a_part_of_an_earlier_run_is_kept(server, mini, tmp_path):
    whole = (mini / "benchmark.tgz").read_bytes()
    (tmp_path / "b.tgz.part").write_bytes(whole[:1500])
    get(server, tmp_path / "b.tgz")
    assert (tmp_path / "b.tgz").read_bytes() == whole and server.sent == len(whole) - 1500


@pytest.mark.parametrize("extra, sent", [(b"", 0), (b"longer than the whole", 1)])
def test_a_part_that_is_whole_or_too_long(server, mini, tmp_path, extra, sent):
    whole = (mini / "benchmark.tgz").read_bytes()
    (tmp_path / "b.tgz.part").write_bytes(whole + extra)
    get(server, tmp_path / "b.tgz")
    assert (tmp_path / "b.tgz").read_bytes() == whole and server.sent == sent * len(whole)


def test_a_server_without_ranges_starts_again(server, mini, tmp_path):
    server.ranges = False
    (tmp_path / "b.tgz.part").write_bytes(b"x" * 1500)
    get(server, tmp_path / "b.tgz")
    assert (tmp_path / "b.tgz").read_bytes() == (mini / "benchmark.tgz").read_bytes()


def test_a_connection_that_always_breaks_keeps_what_came(server, tmp_path):
    server.cuts = [1000] + [0] * 20
    with pytest.raises(fetch.FetchError, match=r"benchmark\.tgz: .*0\.0 MB have arrived; the next run goes on"):
        get(server, tmp_path / "b.tgz")
    assert (tmp_path / "b.tgz.part").stat().st_size == 1000 and server.requests == 1 + fetch.TRIES


def test_wrong_hash(server, mini, tmp_path):
    with pytest.raises(fetch.FetchError, match=f"md5 {md5(mini / 'benchmark.tgz')}, wanted 0123.*It was removed"):
        get(server, tmp_path / "b.tgz", "0123")
    assert not list(tmp_path.glob("b.tgz*"))


def test_refusals_of_the_server(server, tmp_path):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(fetch.FetchError, match="sends a web page, wanted an archive"):
        get(server, tmp_path / "b.tgz")
    with pytest.raises(fetch.FetchError, match="none.tgz: the server answers 404"):
        fetch.download(f"{server.url}/none.tgz", tmp_path / "none.tgz", pause=0)
    server.server_close()
    server.shutdown()
    with pytest.raises(fetch.FetchError, match="benchmark.tgz: .*refused"):
        get(server, tmp_path / "b.tgz")
    assert not list(tmp_path.glob("*.tgz*"))


def test_no_space_left(server, tmp_path, monkeypatch):
    usage = fetch.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda folder: usage._replace(free=100))
    with pytest.raises(fetch.FetchError, match="needs 0 MB in .*, 0 MB are free; make room"):
        get(server, tmp_path / "b.tgz")
    assert not list(tmp_path.glob("*.tgz*"))


# -- extraction --------------------------------------------------------------------------------------------------------

def tar_of(path: Path, **members) -> Path:
    """A tar archive of TarInfo attributes: name -> dict of attributes, or bytes."""
    with tarfile.open(path, "w") as tar:
        for name, what in members.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            content = what if isinstance(what, bytes) else b""
            info.size = len(content)
            for key, value in ({} if isinstance(what, bytes) else what).items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["../dataset/img/a.jpg", "dataset/img/../../../a.jpg", "/dataset/img/a.jpg", "x/.."])
def test_names_that_lead_out_are_refused(tmp_path, name):
    archive = tar_of(tmp_path / "evil.tar", **{"dataset/img/good.jpg": b"1", name: b"evil"})
    with pytest.raises(fetch.FetchError, match="leads out of the folder"):
        fetch.extract(archive, fetch.subtree(pascal.SBD_FILES), tmp_path / "deep/out")
    assert sorted(files(tmp_path)) == ["deep/out/dataset/img/good.jpg", "evil.tar"]


@pytest.mark.parametrize("kind, target", [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "dataset/train.txt"),
                                          (tarfile.CHRTYPE, ""), (tarfile.FIFOTYPE, "")])
def test_links_and_devices_are_refused(tmp_path, kind, target):
    archive = tar_of(tmp_path / "evil.tar", **{"dataset/train.txt": b"1",
                                               "dataset/img/a.jpg": {"type": kind, "linkname": target}})
    with pytest.raises(fetch.FetchError, match=r"'dataset/img/a.jpg' is a link or a device, wanted a regular file"):
        fetch.extract(archive, fetch.subtree(pascal.SBD_FILES), tmp_path / "out")
    assert not os.path.lexists(tmp_path / "out/dataset/img/a.jpg")


def test_links_that_are_not_wanted_are_left_alone(tmp_path):
    link = {"type": tarfile.SYMTYPE, "linkname": "/"}
    archive = tar_of(tmp_path / "a.tar", **{"dataset/train.txt": b"1", "bin/x": link})
    assert fetch.extract(archive, fetch.subtree(pascal.SBD_FILES), tmp_path / "out") == 1
    assert list(files(tmp_path / "out")) == ["dataset/train.txt"]


def test_an_archive_that_swells_is_stopped(tmp_path):
    archive = tar_of(tmp_path / "big.tar", **{f"dataset/img/{i}.jpg": b"x" * 1000 for i in range(5)})
    with pytest.raises(fetch.FetchError, match="unpacks to more than"):
        fetch.extract(archive, fetch.subtree(pascal.SBD_FILES), tmp_path / "out", most=3000)
    assert len(files(tmp_path / "out")) == 3


@pytest.mark.parametrize("name, cut", [("benchmark.tgz", .3), ("benchmark.tgz", .99),
                                       *(("VOCtrainval_25-May-2011.tar", cut) for cut in (-512, -200, 0, 200, 512, 700))])
def test_archives_cut_short(mini, tmp_path, name, cut):
    """A .tgz cut at a share of its length; a .tar cut so many bytes from where a member in its middle begins."""
    whole = (mini / name).read_bytes()
    if name.endswith(".tar"):
        with tarfile.open(mini / name) as tar:
            members = tar.getmembers()
            at = members[len(members) // 2].offset + cut
    (tmp_path / name).write_bytes(whole[: at if name.endswith(".tar") else int(cut * len(whole))])
    wanted = fetch.subtree(pascal.VOC_FILES if name.startswith("VOC") else pascal.SBD_FILES)
    with pytest.raises(fetch.FetchError, match=f"{name}: not a whole tar archive .* remove it"):
        fetch.extract(tmp_path / name, wanted, tmp_path / "out")
    assert not list((tmp_path / "out").rglob(".*"))  # no half-written file


def test_no_archive_and_no_space(tmp_path, mini, monkeypatch):
    (tmp_path / "a.tar").write_text("hello")
    with pytest.raises(fetch.FetchError, match=r"a\.tar: not a whole tar archive \(5 bytes\)"):
        fetch.extract(tmp_path / "a.tar", str, tmp_path / "out")

    def full(source, target, length):
        target.write(b"half")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(fetch.shutil, "copyfileobj", full)
    with pytest.raises(fetch.FetchError, match=r"benchmark\.tgz -> .*out: .*No space left"):
        fetch.extract(mini / "benchmark.tgz", fetch.subtree(pascal.SBD_FILES), tmp_path / "out")
    assert not files(tmp_path / "out")


# -- prepare -----------------------------------------------------------------------------------------------------------

def check_result(root: Path, record: dict, labels: int) -> None:
    assert (root / "pascal/VOC2011/ImageSets/Segmentation/seg11valid.txt").read_text() == "v1\nv2\nv3\n"
    assert (root / "sbdd/dataset/train.txt").read_text().split() == TRAIN
    for name in ("v1", "v2", "v3"):
        assert (root / f"pascal/VOC2011/JPEGImages/{name}.jpg").is_file()
        assert (root / f"pascal/VOC2011/SegmentationClass/{name}.png").is_file()
    for name in TRAIN:
        assert (root / f"sbdd/dataset/img/{name}.jpg").is_file() and (root / f"sbdd/dataset/cls/{name}.mat").is_file()
    assert (record["train"], record["seg11valid"], record["labels"]) == (3, 3, labels)
    assert json.loads((root / "pascal/prepared.json").read_text()) == record
    assert not list(root.rglob("*.partial")) and not list(root.rglob("*.part"))


def test_fetched_from_the_sources(server, mini, tmp_path, expected):
    root = tmp_path / "root"
    sources = {"2011": server.source("2011"), "sbd": server.source("sbd", md5=md5(mini / "benchmark.tgz"))}
    record = pascal.prepare(root, sources=sources, expected=expected)
    check_result(root, record, 4 + 4)
    assert record["voc"]["sha256"] == hashlib.sha256((mini / "VOCtrainval_25-May-2011.tar").read_bytes()).hexdigest()
    assert not (root / "pascal/VOC2011/Annotations").exists()
    before, sent = files(root), server.sent
    assert pascal.prepare(root, sources=sources, expected=expected) == record
    assert files(root) == before and server.sent == sent  # nothing to do, nothing done


def test_2012_in_place_of_2011(server, tmp_path, expected):
    root = tmp_path / "root"
    sources = {"2012": server.source("2012"), "sbd": server.source("sbd")}
    record = pascal.prepare(root, year="2012", sources=sources, expected=expected)
    check_result(root, record, 6 + 4)
    assert os.readlink(root / "pascal/VOC2011/JPEGImages") == "../VOC2012/JPEGImages"
    os.replace(root, tmp_path / "moved")  # the links are relative
    assert pascal.prepare(tmp_path / "moved", year="2012", sources=sources, expected=expected) == record


@pytest.mark.parametrize("voc", ["VOCdevkit2011", "VOCdevkit2011/VOC2011", "VOCdevkit2012",
                                 "VOCtrainval_25-May-2011.tar", "VOCtrainval_11-May-2012.tar"])
@pytest.mark.parametrize("sbd", ["benchmark_RELEASE", "benchmark_RELEASE/dataset", "benchmark.tgz"])
def test_given_folders_and_archives(mini, tmp_path, expected, voc, sbd):
    before = files(mini)
    record = pascal.prepare(tmp_path / "root", mini / voc, mini / sbd, expected=expected)
    check_result(tmp_path / "root", record, (6 if "2012" in voc else 4) + 4)
    assert files(mini) == before
    assert record["voc"]["from"] == str(mini / voc)


def test_archives_put_in_the_download_folder(mini, tmp_path, expected):
    (tmp_path / "download").mkdir()
    for name in ("VOCtrainval_25-May-2011.tar", "benchmark.tgz"):
        os.replace(mini / name, tmp_path / "download" / name)
    with pytest.raises(fetch.FetchError, match="benchmark.tgz: md5 .*, wanted 82b4d87ceb2ed10f6038a1cba92111cb"):
        pascal.prepare(tmp_path, expected=expected)
    sources = {name: dataclasses.replace(source, md5=None) for name, source in pascal.SOURCES.items()}
    check_result(tmp_path, pascal.prepare(tmp_path, sources=sources, expected=expected), 8)


def test_offline_says_what_where_from_and_where_to(server, mini, tmp_path, expected, capsys, monkeypatch):
    server.shutdown()
    server.server_close()
    sources = {"2011": server.source("2011"), "sbd": server.source("sbd")}
    monkeypatch.setattr(pascal.prepare, "__defaults__", (None, None, "2011", sources, expected))
    assert pascal.main(["--root", str(tmp_path / "root")]) == 1
    err = capsys.readouterr().err
    for what, option in (("2011", "--voc"), ("sbd", "--sbd")):
        assert f"It comes from {sources[what].url}" in err and f"{option} PATH" in err
        assert f"Put that file at {tmp_path}/root/download/{sources[what].archive}" in err
    assert f"VOC2011 is not at {tmp_path}/root/pascal/VOC2011" in err and "SBD is not at" in err
    assert files(tmp_path / "root") == {}
    # one of the two given: it is made, and kept; then the other
    assert pascal.main(["--root", str(tmp_path / "root"), "--voc", str(mini / "VOCdevkit2011")]) == 1
    assert "VOC2011 is not" not in capsys.readouterr().err
    assert pascal.main(["--root", str(tmp_path / "root"), "--sbd", str(mini / "benchmark.tgz")]) == 0
    out = capsys.readouterr().out
    assert "3 training images" in out and "3 validation images, seg11valid" in out and "8 labels checked" in out
    assert f"set FCN_DATA={tmp_path}/root" in out
    check_result(tmp_path / "root", json.loads((tmp_path / "root/pascal/prepared.json").read_text()), 8)


@pytest.mark.parametrize("damage, words", [
    (lambda m: (m / "VOCdevkit2011/VOC2011/ImageSets/Segmentation/val.txt").write_text("v1\nv2\n"),
     "gives 2 ids, set hash .*; wanted 3, "),
    (lambda m: (m / "benchmark_RELEASE/dataset/train.txt").write_text("t1\n"), r"train\.txt: 1 ids, wanted 3"),
    (lambda m: (m / "benchmark_RELEASE/dataset/cls/t2.mat").unlink(),
     r"1 of 12 files are missing, the first .*t2\.mat"),
    (lambda m: save_label(m / "VOCdevkit2011/VOC2011/SegmentationClass/v2.png", np.full((9, 13), 99, np.uint8)),
     r"1 problems in 4 labels\n.*v2\.png: label value 99"),
])
def test_data_that_are_not_the_published_ones(mini, tmp_path, expected, damage, words):
    damage(mini)
    given = mini / "VOCdevkit2011", mini / "benchmark_RELEASE"
    for _ in range(2):  # and again: a failed check is not forgotten
        with pytest.raises(fetch.FetchError, match=words):
            pascal.prepare(tmp_path / "root", *given, expected=expected)


def test_wrong_paths(mini, tmp_path, expected):
    for voc, words in (("nowhere", "no such archive or folder"), ("benchmark.tgz", "holds no VOC2011"),
                       ("benchmark_RELEASE", "no VOC2011 in it; wanted a folder")):
        with pytest.raises(fetch.FetchError, match=words):
            pascal.prepare(tmp_path / "root", mini / voc, mini / "benchmark_RELEASE", expected=expected)


def test_a_list_removed_later_is_written_again(mini, tmp_path, expected):
    given = mini / "VOCdevkit2011", mini / "benchmark_RELEASE"
    record = pascal.prepare(tmp_path / "root", *given, expected=expected)
    (tmp_path / "root/pascal/VOC2011/ImageSets/Segmentation/seg11valid.txt").unlink()
    check_result(tmp_path / "root", pascal.prepare(tmp_path / "root", *given, expected=expected), record["labels"])


def test_killed_anywhere_it_goes_on(tmp_path):
    """Killed with SIGKILL while it unpacks, prepare keeps what was unpacked and ends as if it had not been killed."""
    train = [f"t{i}" for i in range(150)]
    write_voc(tmp_path / "dev/VOC2011", ["v1", "v2"])
    write_sbd(tmp_path / "rel/dataset", train)
    pack(tmp_path / "voc.tar", tmp_path / "dev", "VOCdevkit")
    pack(tmp_path / "sbd.tgz", tmp_path / "rel", "benchmark_RELEASE")
    root = tmp_path / "root"
    code = f"""
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("prepare_pascal", {str(ROOT / 'data/pascal/prepare.py')!r})
sys.modules["prepare_pascal"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
P = pathlib.Path
module.prepare(P({str(root)!r}), P({str(tmp_path / 'voc.tar')!r}), P({str(tmp_path / 'sbd.tgz')!r}),
               expected=module.Expected(150, 2, module.set_hash(["v1", "v2"])))
"""
    kills = 0
    for unpacked in (40, 200):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        partial = root / "sbdd/.sbd.tgz.partial/dataset"
        while process.poll() is None and not (partial / "cls").exists() and sum(
                len(os.listdir(p)) for p in (partial / "img", partial / "cls") if p.exists()) < unpacked:
            time.sleep(.001)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        assert not (root / "sbdd/dataset").exists() or kills < 1  # it appears whole or not at all
    kept = files(root / "sbdd/.sbd.tgz.partial") if (root / "sbdd/.sbd.tgz.partial").exists() else {}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = files(root / "sbdd")
    assert kills and {name: after[name] for name in kept if not Path(name).name.startswith(".")} == {
        name: time for name, time in kept.items() if not Path(name).name.startswith(".")}
    assert len(after) == 301 and not list(root.rglob("*.part*"))
    assert json.loads((root / "pascal/prepared.json").read_text())["labels"] == 152


# -- the real lists ----------------------------------------------------------------------------------------------------

def test_seg11valid_from_the_real_lists():
    """From VOC2012's val and SBD's train (real lists), and from a VOC2011 val (2012's without what 2012 added)."""
    lists = shared("voc-labels") / "lists"
    val, train, wanted = ((lists / f"{name}.txt").read_text().split()
                          for name in ("voc12_val", "sbd_train", "seg11valid"))
    assert len(train) == pascal.Expected().train and len(wanted) == pascal.Expected().seg11valid
    assert pascal.derive_seg11valid(val, train, pascal.Expected()) == wanted
    added = set(val) - set(train) - set(wanted)
    assert len(added) == 168 == bin(pascal.Expected().new_in_2012).count("1")
    assert pascal.derive_seg11valid([name for name in val if name not in added], train, pascal.Expected()) == wanted
    with pytest.raises(fetch.FetchError, match="gives 735 ids"):
        pascal.derive_seg11valid(wanted[1:], train, pascal.Expected())


def test_class_names():
    names = (ROOT / "data/pascal/classes.txt").read_text().splitlines()
    assert len(names) == 21 and names[0] == "background" and names[1:] == sorted(names[1:]) and names[15] == "person"
