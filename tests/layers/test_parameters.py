"""`param_str`: every rule of every kind of key."""
import pytest

from layers import parameters

KEYS = {"n": parameters.integer(least=1), "x": parameters.number(0, 1, default=0.5),
        "p": parameters.choice(1, 2, default=2), "path": parameters.text(default=""),
        "paths": parameters.texts(default=[]), "counts": parameters.integers(least=1, default=[1])}


def test_defaults_fill_what_is_not_given():
    assert vars(parameters.parse('{"n": 3}', KEYS)) == {"n": 3, "x": 0.5, "p": 2, "path": "", "paths": [],
                                                       "counts": [1]}


@pytest.mark.parametrize("given, said", [
    ("", "key 'n' is missing, expected an integer >= 1"),
    ("[1]", "expected a JSON object"),
    ("{", "not JSON"),
    ('{"n": 0}', "'n' is 0, expected an integer >= 1"),
    ('{"n": true}', "'n' is true"),
    ('{"n": 1.5}', "'n' is 1.5"),
    ('{"n": 1, "x": 1.5}', "'x' is 1.5, expected a number from 0 to 1"),
    ('{"n": 1, "x": NaN}', "'x' is NaN"),
    ('{"n": 1, "p": 3}', "'p' is 3, expected one of 1, 2"),
    ('{"n": 1, "p": true}', "'p' is true"),
    ('{"n": 1, "path": 1}', "'path' is 1, expected a string"),
    ('{"n": 1, "paths": "a"}', "'paths' is \"a\", expected a list of strings"),
    ('{"n": 1, "counts": [2, 0]}', "'counts' is [2, 0], expected a list of integers >= 1"),
    ('{"n": 1, "m": 1}', "unknown key 'm', expected one of counts, n, p, path, paths, x")])
def test_wrong_values_are_named(given, said):
    with pytest.raises(ValueError) as error:
        parameters.parse(given, KEYS)
    assert said in str(error.value)
