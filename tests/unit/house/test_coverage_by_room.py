import json

import coverage_by_room as rooms
import pytest


def entry(lines, covered_lines, branches=0, covered_branches=0):
    return {
        "summary": {
            "num_statements": lines,
            "covered_lines": covered_lines,
            "num_branches": branches,
            "covered_branches": covered_branches,
        }
    }


def report(files):
    return {"files": {f"src/airside/{name}.py": one for name, one in files.items()}}


def test_lines_and_branches_count_alike():
    found = rooms.counts(report({"oci/digest": entry(6, 5, 4, 3)}))
    assert found == {"oci.digest": rooms.Count(8, 10)}
    assert found["oci.digest"].percent == 80.0


def test_a_room_is_itself_and_what_is_below_it():
    modules = rooms.counts(
        report(
            {
                "store/__init__": entry(1, 1),
                "store/gc": entry(9, 0),
                "storeroom/x": entry(50, 50),
            }
        )
    )
    assert rooms.of_room("store", modules) == {
        "store": rooms.Count(1, 1),
        "store.gc": rooms.Count(0, 9),
    }


def test_a_room_below_its_threshold_is_named_with_its_worst_files():
    modules = rooms.counts(report({"a/x": entry(10, 9), "a/y": entry(10, 1), "b/z": entry(10, 9)}))
    text, good = rooms.table({"a": 90.0, "b": 90.0}, modules)
    assert not good
    assert [line.split()[0] for line in text.splitlines()] == ["a", "10.0", "90.0", "b"]
    assert rooms.table({"b": 90.0}, modules)[1]


def test_a_room_that_no_file_belongs_to_is_not_measured():
    text, good = rooms.table({"a.gone": 90.0}, {})
    assert not good
    assert text.endswith("not measured")


def test_the_rooms_are_those_of_the_contracts_and_of_the_code():
    assert "oci" in rooms.pure_rooms(rooms.ROOT)
    packages = (rooms.ROOT / "src" / "airside").glob("*/__init__.py")
    assert sorted(rooms.all_rooms(rooms.ROOT)) == sorted(path.parent.name for path in packages)


@pytest.mark.parametrize(("covered", "code"), [(97, 0), (96, 1)])
def test_the_exit_code_says_if_a_pure_room_is_below(tmp_path, capsys, covered, code):
    names = [f"{room.replace('.', '/')}/m" for room in rooms.pure_rooms(rooms.ROOT)]
    path = tmp_path / "coverage.json"
    path.write_text(json.dumps(report(dict.fromkeys(names, entry(100, covered)))))
    assert rooms.main([str(path), "--pure"]) == code
    assert len(capsys.readouterr().out.splitlines()) >= len(names)
