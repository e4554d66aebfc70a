from pathlib import Path

import pytest
import pyvips
from retouch_common.testing import commands
from retouch_common.testing.machine import Finished


def test_the_large_portrait_has_27_megapixels(tmp_path):
    photo = pyvips.Image.new_from_file(str(commands.large_portrait(tmp_path)))
    assert photo.width * photo.height == 27_000_000 and photo.deviate() > 20


def test_the_start_of_a_command_does_not_count_for_a_photo(tmp_path, monkeypatch):
    noise = iter([0.0, 0.5, 0.1] * 2)

    def run(command, *, environment):
        assert environment == {"OMP_NUM_THREADS": "1"}
        cpu_seconds = 2 + 0.3 * len(list(Path(command[1]).iterdir())) + next(noise)
        return Finished(0, "", "", 0, 9.0, cpu_seconds)

    monkeypatch.setattr(commands, "run_measured", run)
    seconds, _ = commands.seconds_per_photo("retouch", tmp_path)
    assert seconds == pytest.approx(0.3)


def test_a_command_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(commands, "run_measured", lambda *_, **__: Finished(1, "", "no such photo", 0, 1.0, 1.0))
    with pytest.raises(RuntimeError, match="retouch exited with 1: no such photo"):
        commands.time_command("retouch")
