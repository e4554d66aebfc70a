import pytest
from retouch_common.studio.requests import parse_output_options


@pytest.mark.parametrize("value", [[], {}, [1], {"a": []}, 1, True, "gif"])
@pytest.mark.parametrize("name", ["format", "quality", "strip"])
def test_options_of_any_wrong_type_are_refused(name, value):
    if name == "quality" and value in (1, True):
        return
    with pytest.raises(ValueError, match=name):
        parse_output_options({name: value})


def test_options_are_parsed():
    options = {"quality": 80, "strip": "gps", "provenance": False, "convert": True}
    assert parse_output_options({**options, "format": "png"}) == (".png", options)
    assert parse_output_options({}) == (None, {"quality": None, "strip": None, "provenance": True, "convert": False})
