from airside.diagnostics.space_forecast import Sample
from airside.page.element import render
from airside.page.plot import free_space_plot
from airside.page.words import Words


def test_the_plot_says_in_words_what_it_draws():
    samples = [Sample(n * 86400.0, 10**9 * (9 - n), 10**10) for n in range(5)]
    found = render(free_space_plot(Words("en"), samples, 10**8))
    assert 'role="img"' in found
    assert found.count("From 9.0 GB free on 1970-01-01 to 5.0 GB free on 1970-01-05.") == 2
    assert "NaN" not in found


def test_one_sample_is_no_plot():
    assert "svg" not in render(free_space_plot(Words("en"), [Sample(0.0, 1, 2)], 0))
