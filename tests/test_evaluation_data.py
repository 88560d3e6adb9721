"""Where pictures and their classes come from, and what is wrong with data that cannot be evaluated on."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnport.errors import CnnportError
from cnnport.evaluation.data import HeldOutDigits, PictureFiles, open_pictures
from cnnport.evaluation.labels import Classes

ANIMALS = Classes(3, ("cat", "great white shark", "house finch, linnet"))


def write(folder: Path, *files: str) -> Path:
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), len(file), np.uint8)).save(path)
    return folder


def classes_of(found) -> dict[str, int]:
    return {found.name(place): found.label(place) for place in range(len(found))}


@pytest.mark.parametrize(
    ("folders", "how"),
    [
        (("cat", "Great_White_Shark", "house-finch,linnet"), "by name"),
        (("0", "1", "2"), "by number"),
        (("n001", "n002", "n010"), "in sorted order"),
    ],
)
def test_class_folders_are_matched(tmp_path: Path, folders: tuple[str, ...], how: str) -> None:
    write(tmp_path, *(f"{folder}/a.png" for folder in folders))
    found = open_pictures(str(tmp_path), ANIMALS)
    assert classes_of(found) == {f"{folder}/a.png": index for index, folder in enumerate(folders)}
    assert found.description == f"3 pictures of 3 classes, matched {how}"
    assert "/" not in found.description


def test_numbers_are_numbers_and_some_classes_may_have_no_pictures(tmp_path: Path) -> None:
    write(tmp_path, "10/a.png", "9/a.png", "0002/a.png")
    found = open_pictures(str(tmp_path), Classes(11, None))
    assert classes_of(found) == {
        "10/a.png": 10,
        "9/a.png": 9,
        "0002/a.png": 2,
    }


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("cat", "dog"), "'dog' is called like none, or like two"),
        (("cat", "dog", "eel"), "'dog' is called like none, or like two"),
        (("a", "b"), "2 class folders and the network 3 classes"),
        (("a", "b", "c", "d"), "4 class folders and the network 3 classes"),
        (("1", "2", "3"), "'3' is called like none"),
        (("1", "01"), "both called like class 1"),
        (("cat",), "all 1 pictures in .* are of one class, 0"),
    ],
)
def test_class_folders_that_cannot_be_matched(tmp_path: Path, folders: tuple[str, ...], message: str) -> None:
    write(tmp_path, *(f"{folder}/a.png" for folder in folders))
    with pytest.raises(CnnportError, match=message):
        open_pictures(str(tmp_path), ANIMALS)


def test_two_classes_of_one_name_are_told_apart_by_numbers_only(tmp_path: Path) -> None:
    cranes = Classes(3, ("crane", "heron", "crane"))
    write(tmp_path, "crane/a.png", "heron/a.png")
    with pytest.raises(CnnportError, match="'crane' is called like none, or like two"):
        open_pictures(str(tmp_path), cranes)
    labels = tmp_path / "labels.txt"
    labels.write_text("crane 2\nheron heron\n")
    assert classes_of(open_pictures(str(tmp_path), cranes, labels=labels)) == {
        "crane/a.png": 2,
        "heron/a.png": 1,
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "n1 cat\nn2 great white shark\nn3 house finch, linnet\n"),
        ("l.txt", "n1\t0\nn2\t1\nn3\t2\n"),
        ("l.csv", 'synset,label\nn1,cat\nn2,great white shark\nn3,"house finch, linnet"\n'),
        ("l.json", json.dumps({"n1": 0, "n2": "great white shark", "n3": 2})),
        # As ImageNet's own lists are: what the lines say does not fit, their order does.
        ("l.json", json.dumps({"0": ["n1", "tabby"], "1": ["n2", "shark"], "2": ["n3", "finch"]})),
        ("l.txt", "n1 tabby cat\nn2 shark, fish\nn3 finch\n"),
    ],
)
def test_a_list_of_folders(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / "data", "n1/a.png", "n3/b.jpg")
    (tmp_path / name).write_text(text)
    found = open_pictures(str(tmp_path / "data"), ANIMALS, labels=tmp_path / name)
    assert classes_of(found) == {"n1/a.png": 0, "n3/b.jpg": 2}
    assert found.description.endswith(f"matched by {name}")


def test_a_list_of_names_in_the_order_of_the_classes(tmp_path: Path) -> None:
    write(tmp_path / "data", "owl/a.png", "yak/b.png")
    (tmp_path / "names.txt").write_text("yak\nemu\nowl\n")
    found = open_pictures(str(tmp_path / "data"), Classes(3, None), labels=tmp_path / "names.txt")
    assert classes_of(found) == {"owl/a.png": 2, "yak/b.png": 0}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val.txt", "a.png 0\nb.png 2\nc d.png 1\n"),
        ("labels.csv", 'file,class\na.png,cat\nb.png,"house finch, linnet"\nc d.png,great white shark\n'),
        ("labels.csv", "a,0\nb,2\nc d,1\n"),
        ("truth.txt", "0\n2\n1\n"),
    ],
)
def test_a_flat_folder_with_its_list(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, "a.png", "b.png", "c d.png")
    (tmp_path / name).write_text(text)
    assert classes_of(open_pictures(str(tmp_path), ANIMALS)) == {"a.png": 0, "b.png": 2, "c d.png": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "lies in no class folder"),
        ("a.png 0\n", "does not say of which class 'b.png' is"),
        ("a.png 0\nb.png 1\nz.png 2\n", "names 1 pictures that are not there, such as 'z.png'"),
        ("a.png 0\nb.png 3\n", "'b.png' is said to be of class '3', but classes are numbered from 0 to 2"),
        ("a.png 0\nb.png dog\n", "class 'dog', but it is no label"),
        ("a.png 0\nb.png 1\nb.png 2\n", "has 'b.png' 2 times"),
        ("a.png 0\nb.png 0\n", "of one class, 0"),
        ("x 0\ny 1\n", "does not name it"),
        ("", "is empty"),
        ("a.png\nb.png 1\n", "in entry 2"),
    ],
)
def test_a_flat_folder_whose_classes_are_not_told(tmp_path: Path, text: str | None, message: str) -> None:
    write(tmp_path, "a.png", "b.png")
    if text is not None:
        (tmp_path / "val.txt").write_text(text)
    with pytest.raises(CnnportError, match=message):
        open_pictures(str(tmp_path), ANIMALS)


def test_folders_without_pictures_and_lists_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CnnportError, match="has no pictures"):
        open_pictures(str(tmp_path / "empty"), ANIMALS)
    with pytest.raises(CnnportError, match="no such folder"):
        open_pictures(str(tmp_path / "nowhere"), ANIMALS)
    write(tmp_path / "data", "a.png", "b.png")
    for name, data in (("l.json", b"{"), ("l.json", b"[1]"), ("l.txt", b"\xff\xfe\x00"), ("gone.txt", None)):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(CnnportError, match=name):
            open_pictures(str(tmp_path / "data"), ANIMALS, labels=tmp_path / name)
    for name in ("a.txt", "b.csv"):
        (tmp_path / "data" / name).write_text("a 1")
    with pytest.raises(CnnportError, match=r"several lists: say with --labels which of a\.txt and b\.csv"):
        open_pictures(str(tmp_path / "data"), ANIMALS)


def test_order_depends_on_names_alone_and_a_few_are_balanced(tmp_path: Path) -> None:
    files = [f"{folder}/{index}.png" for folder in (0, 1) for index in range(8)]
    one = open_pictures(str(write(tmp_path / "one", *files)), Classes(2, None))
    other = open_pictures(str(write(tmp_path / "other", *reversed(files))), Classes(2, None))
    assert [one.name(place) for place in range(16)] == [other.name(place) for place in range(16)]
    few = open_pictures(str(tmp_path / "one"), Classes(2, None), count=6)
    assert [few.name(place) for place in range(6)] == [one.name(place) for place in range(6)]
    assert sorted(few.label(place) for place in range(6)) == [0, 0, 0, 1, 1, 1]
    assert few.description.startswith("6 of 16 pictures")


def test_the_key_changes_with_what_a_result_depends_on(tmp_path: Path) -> None:
    folder = write(tmp_path, "0/a.png", "1/b.png")
    keys = [open_pictures(str(folder), Classes(2, None)).key]
    assert open_pictures(str(folder), Classes(2, None)).key == keys[0]
    Image.new("RGB", (9, 9)).save(folder / "0" / "a.png")
    keys.append(open_pictures(str(folder), Classes(2, None)).key)
    (folder / "1" / "b.png").rename(folder / "0" / "b.png")
    write(folder, "1/c.png")
    keys.append(open_pictures(str(folder), Classes(2, None)).key)
    assert len(set(keys)) == 3


def test_a_part_knows_its_places(tmp_path: Path) -> None:
    whole = open_pictures(
        str(write(tmp_path, *(f"{index % 2}/{index}.png" for index in range(9)))), Classes(2, None)
    )
    assert isinstance(whole, PictureFiles)
    part = whole.part(range(3, 7))
    assert (part.first, len(part)) == (3, 4)
    for place in range(3, 7):
        assert (part.name(place), part.label(place)) == (whole.name(place), whole.label(place))
        assert part.image(place) == whole.image(place)


def test_the_digits_are_the_held_out_ones() -> None:
    found = open_pictures("digits", Classes(10, None))
    assert isinstance(found, HeldOutDigits)
    assert len(found) == 500
    assert np.bincount([found.label(place) for place in range(500)]).tolist() == [50] * 10
    with pytest.raises(CnnportError, match="1000 classes, and there are 10 digits"):
        open_pictures("digits", Classes(1000, None))
