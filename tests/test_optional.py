import pytest

from placeformer._optional import extra


def test_a_missing_package_names_its_extra():
    message = r"'no_such_package'.*pip install 'placeformer\[nwb\]'"
    with pytest.raises(ImportError, match=message), extra("nwb"):
        import no_such_package  # noqa: F401


def test_what_is_there_is_imported():
    with extra("nwb"):
        import json
    assert json.dumps(1) == "1"
