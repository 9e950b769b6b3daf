import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airside.containerd.mirror.managed_block import split_lines, with_lines, without_ours
from airside.core.errors import ConflictError

OURS = ["first", "  second"]
texts = st.text(st.sampled_from("ab#|<> \t\r\n\u2028\u00e4")) | st.text()


@given(texts, st.data())
def test_what_others_wrote_comes_back_byte_for_byte(text, data):
    count = len(split_lines(text))
    first = data.draw(st.integers(0, count))
    last = data.draw(st.none() | st.integers(first, count - 1)) if first < count else None
    try:
        put = with_lines(text, OURS, first=first, last=last, registries=("a", "b:1"), made=2)
    except ConflictError:
        assert text.endswith("\r")  # a line end that is half there is not known from ours
        return
    found = without_ours(put)
    assert (found.text, found.registries, found.made) == (text, ("a", "b:1"), 2)
    assert without_ours(text).text == text


@given(texts)
def test_several_blocks_come_out_together(text):
    assume(not text.endswith("\r"))
    lines = len(split_lines(text))
    put = with_lines(text, OURS, first=lines)
    put = with_lines(put, ["x"], first=0)
    assert without_ours(put).text == text


def test_our_lines_are_where_they_were_put():
    put = with_lines("a\nb\nc", OURS, first=1, registries=("docker.io",))
    begin = split_lines(put)[1]
    assert begin.startswith("# >>> airside mirror ")
    assert begin.endswith(" for=docker.io\n")
    assert put == f"a\n{begin}first\n  second\n# <<< airside mirror\nb\nc"


def test_a_line_that_ours_stand_for_stays_as_a_comment():
    put = with_lines("a: {}", ["a: {b: c}"], first=0, last=0)
    assert "\na: {b: c}\n# | a: {}\n# <<< airside mirror, put behind a line without an end\n" in put


def test_line_ends_are_those_of_the_file():
    put = with_lines("a\r\nb\r\n", OURS, first=1)
    assert put.count("\r\n") == put.count("\n") == 6


def test_what_others_add_around_our_lines_stays():
    put = "before\n" + with_lines("a", OURS, first=1) + "after\n"
    assert without_ours(put).text == "before\na\nafter\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("second", "other"),
        lambda text: text.replace("# <<< airside mirror\n", ""),
        lambda text: text.replace("# >>> airside mirror", "#"),
        lambda text: text.replace("made=1", "made=x"),
        lambda text: text.replace("# >>> airside mirror ", "# >>> airside mirror x"),
        lambda text: text + text,
        lambda text: text.replace("first\n", text),
    ],
)
def test_lines_of_ours_that_somebody_changed_are_not_guessed_at(change):
    put = with_lines("a\nb\n", OURS, first=1, made=1)
    changed = change(put)
    if changed == put + put:
        assert without_ours(changed).text == "a\nb\na\nb\n"
        return
    with pytest.raises(ConflictError) as caught:
        without_ours(changed)
    assert "by hand" in caught.value.context["hint"]
