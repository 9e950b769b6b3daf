import pytest

from airside.registry.rules.quality_value import quality


@pytest.mark.parametrize(
    ("parameters", "value"),
    [
        ("", 1.0),
        ("q=0.5", 0.5),
        (" version=1.0.0; Q=0.25 ", 0.25),
        ("q=0", 0.0),
        ("q=7", 1.0),
        ("q=-1", 0.0),
        ("q=often", 0.0),
        ("charset=utf-8", 1.0),
    ],
)
def test_a_quality_is_between_0_and_1_and_1_where_none_is_given(parameters, value):
    assert quality(parameters) == value
