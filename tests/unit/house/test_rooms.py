import pytest
from checks import rooms
from checks.source import ROOT

LAYERS = """
[[tool.importlinter.contracts]]
name = "imports go down only"
layers = ["top", "left | right", "ground"]
"""
SOUND = {
    "top/__init__.py": "from airside.left import a\nfrom airside import right\n",
    "left/__init__.py": "",
    "left/a.py": "import airside.ground.b\n",
    "right/__init__.py": "def f():\n    from airside.ground import b\n",
    "ground/__init__.py": "",
    "ground/b.py": "",
    "__init__.py": "",
    "__main__.py": "import airside.top\n",
}


@pytest.fixture
def package(tmp_path):
    """Makes a package of the files of SOUND and of others."""

    def make(**files):
        (tmp_path / "pyproject.toml").write_text(LAYERS)
        named = {name.replace("__", "/", 1) + ".py": text for name, text in files.items()}
        for name, text in (SOUND | named).items():
            path = tmp_path / "src/airside" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_rooms_stand_on_floors_above_what_they_import(package):
    graph = rooms.room_graph(package())
    assert rooms.floors(graph) == [["ground"], ["left", "right"], ["top"], ["__main__"]]


def test_imports_in_functions_are_arrows_too(package):
    assert ("right", "ground") in rooms.room_graph(package()).arrows


def test_sound_rooms_have_no_problem(package):
    assert rooms.problems(package()) == []


def test_an_arrow_to_a_sibling_runs_up(package):
    found = rooms.problems(package(left__c="from airside.right import f\n"))
    assert found == ["left imports right, which is not below it"]


def test_a_relative_import_is_followed(package):
    found = rooms.problems(package(left__c="from ..right import f\n"))
    assert found == ["left imports right, which is not below it"]


def test_a_circle_of_rooms_is_named(package):
    found = rooms.problems(package(ground__c="from airside.left import a\n"))
    assert found == [
        "circle in airside: ground, left",
        "ground imports left, which is not below it",
    ]


def test_a_circle_inside_a_room_is_named(package):
    files = {"left__c": "from airside.left import d\n", "left__d": "import airside.left.c\n"}
    assert rooms.problems(package(**files)) == ["circle in airside.left: c, d"]


def test_too_many_entries_and_floors_are_counted(package):
    entries = {f"r{n:02}__x": f"import airside.r{n - 1:02}.x\n" if n else "" for n in range(12)}
    found = rooms.problems(package(**entries))
    assert found[0] == "17 entries in src/airside, at most 16"
    assert found[1] == "12 floors, at most 11"


def test_an_import_of_a_room_without_a_layer_is_named(package):
    found = rooms.problems(package(attic__a="", left__c="import airside.attic.a\n"))
    assert found == ["left imports attic, which is on no layer"]


def test_the_drawings_have_each_room_and_arrow(package):
    graph = rooms.room_graph(package())
    assert rooms.as_text(graph).splitlines() == [
        "  4  __main__  top",
        "  3  top       left right",
        "  2  left      ground",
        "  2  right     ground",
        "  1  ground",
        "5 rooms, 4 floors, 5 arrows",
    ]
    drawn = rooms.as_dot(graph).splitlines()
    assert '  left -> ground [label="1"];' in drawn
    assert "  { rank=same; left; right }" in drawn


def test_the_layers_of_this_repository_are_read():
    assert rooms.declared_layers(ROOT)[-1] == {"core"}
