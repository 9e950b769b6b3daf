from airside.install.marked_text import is_unchanged, marked


def test_a_file_of_ours_is_known_until_somebody_changes_it():
    text = marked("a = 1\nb = 2\n")
    assert is_unchanged(text)
    assert not is_unchanged(text.replace("b = 2", "b = 3"))
    assert not is_unchanged(text + "\n")
    assert not is_unchanged("a = 1\nb = 2\n")
    assert text.endswith("a = 1\nb = 2\n")
