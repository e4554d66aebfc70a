import pytest
import pyvips
from mofrr.demo import CASES, main

pytest.importorskip("skimage")


def test_pictures_and_table(tmp_path, busy_model, capsys):
    model = busy_model(router=False)  # every expert works
    main(str(tmp_path), weights=model)
    names = [f"{case.replace(' ', '_')}_{state}.png" for case in CASES for state in ("retouched", "restored")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "astronaut.png"])
    printed = capsys.readouterr().out
    for case in CASES:
        (row,) = (line for line in printed.splitlines() if line.startswith(f" {case} "))
        assert row.split("dB")[2].strip() == "white, smooth, lift, eye"
    retouched, restored = (
        pyvips.Image.new_from_file(str(tmp_path / f"white_{n}.png")).numpy() for n in ("retouched", "restored")
    )
    assert (retouched[:20] == restored[:20]).all() and (retouched != restored).any()


def test_weights_that_are_not_there_are_an_error():
    with pytest.raises(ValueError, match="nothing-like-this"):
        main(weights="nothing-like-this")
